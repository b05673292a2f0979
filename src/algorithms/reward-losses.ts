/** @file What reward models and classifiers learn by: losses of their outputs, in float64, with their derivatives. */
import type { OutputLoss } from "../model/classifier/classifier.ts";
import { logSigmoid, sigmoid } from "./losses.ts";

/**
 * The Bradley-Terry loss of pairs: mean of -log sigmoid(r_chosen - r_rejected - margin), with c (r_chosen + r_rejected)^2 where c, the
 * centering coefficient, is above 0. Bradley and Terry 1952; Ouyang et al. 2022 (arXiv 2203.02155), equation 1; margin: Touvron et al.
 * 2023 (arXiv 2307.09288), equation 2; centering: Eisenstein et al. 2023 (arXiv 2312.09244), equation 2. As in
 * huggingface/trl@v1.16.0:trl/trainer/reward_trainer.py `_compute_loss`.
 * @param margins  of each pair
 * @param weight   1 over the pairs in the mean
 */
export const bradleyTerryLoss = (margins: ArrayLike<number>, weight: number, centering = 0): OutputLoss => ({
  name: "Bradley-Terry loss",
  /** @param outputs [2 P]: chosen and rejected of the first pair, of the second, ... */
  seeds(outputs) {
    const seeds = new Float32Array(outputs.length);
    let loss = 0;
    for (let p = 0; p < margins.length; p++) {
      const [chosen, rejected] = [outputs[2 * p], outputs[2 * p + 1]];
      const d = chosen - rejected - margins[p];
      const sum = chosen + rejected;
      loss += weight * (-logSigmoid(d) + centering * sum ** 2);
      seeds[2 * p] = weight * (-sigmoid(-d) + 2 * centering * sum);
      seeds[2 * p + 1] = weight * (sigmoid(-d) + 2 * centering * sum);
    }
    return { loss, seeds };
  },
});

/** The mean of (r - score)^2: transformers' loss for the problem type regression. `weight` is 1 over the texts in the mean. */
export const regressionLoss = (scores: ArrayLike<number>, weight: number): OutputLoss => ({
  name: "regression loss",
  seeds(outputs) {
    const errors = Float64Array.from(outputs, (output, i) => output - scores[i]);
    const loss = errors.reduce((sum, error) => sum + weight * error ** 2, 0);
    return { loss, seeds: Float32Array.from(errors, (error) => 2 * weight * error) };
  },
});

/**
 * The mean of -log softmax(outputs)[label]: transformers' loss for the problem type single_label_classification.
 * @param labels the number of each text's label
 * @param count  L, how many labels there are
 * @param weight 1 over the texts in the mean
 */
export const classificationLoss = (labels: ArrayLike<number>, count: number, weight: number): OutputLoss => ({
  name: "classification loss",
  /** @param outputs [B, L] */
  seeds(outputs) {
    const seeds = new Float32Array(outputs.length);
    let loss = 0;
    for (let b = 0; b < labels.length; b++) {
      const row = outputs.subarray(b * count, (b + 1) * count);
      const most = row.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY);
      const sum = row.reduce((a, x) => a + Math.exp(x - most), 0);
      loss -= weight * (row[labels[b]] - most - Math.log(sum));
      row.forEach((x, l) => {
        seeds[b * count + l] = weight * (Math.exp(x - most) / sum - Number(l === labels[b]));
      });
    }
    return { loss, seeds };
  },
});

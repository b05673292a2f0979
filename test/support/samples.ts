/** @file Samples as a reward function gets them, for tests that care about some of their fields. */
import type { RewardSample } from "../../src/experience/sample.ts";

export function testSample(given: Partial<RewardSample>): RewardSample {
  const { prompt = "", response = "" } = given;
  const text = prompt + response;
  const special = { responseWithSpecialTokens: response, textWithSpecialTokens: text };
  return {
    prompt,
    response,
    text,
    ...special,
    promptTokens: [1, 2],
    tokens: [3, 4, 5],
    row: {},
    group: 0,
    copy: 0,
    ...given,
  };
}

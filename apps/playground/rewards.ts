/** @file Rewards that people typed, run in the sandbox. */
import { fail } from "../../src/base/errors.ts";
import type { RewardFunction, RewardSample } from "../../src/experience/sample.ts";
import { askReward } from "../../src/experience/score.ts";
import type { Settings } from "./messages.ts";
import type { Question, Verdict } from "./sandbox-messages.ts";

/** The document of the frame, which the build puts here: one script, and a policy that forbids every request. */
declare const SANDBOX: string;

/** What errors call a typed reward as a whole. */
export const YOURS = "your reward";

/** Milliseconds that a call may take. */
const LIMIT = 5000;

/** The code of the reward; undefined: it is one of the library's by name. */
export function codeOf({ reward, code, pattern }: Settings): string | undefined {
  if (reward === "code") return code;
  if (reward !== "regex") return undefined;
  return `const pattern = new RegExp(${JSON.stringify(pattern)}, "u"); export default (batch) => batch.map(({ response }) => Number(pattern.test(response)));`.replace(
    "; export",
    ";\nexport",
  );
}

/** What is wrong with a reward, and in which of its lines. */
export class RewardProblem extends Error {
  readonly line?: number;

  constructor(name: string, message: string, line?: number) {
    super(message);
    this.name = name;
    if (line !== undefined) this.line = line;
  }
}

let frame: Promise<Window> | undefined;
let asked = 0;
const waiting = new Map<number, (verdict: Verdict) => void>();

/** The frame, made when it is first needed. */
function sandbox(): Promise<Window> {
  frame ??= new Promise((resolve) => {
    const element = document.createElement("iframe");
    element.setAttribute("sandbox", "allow-scripts");
    element.title = "Where the reward runs";
    element.hidden = true;
    element.srcdoc = SANDBOX;
    addEventListener("message", ({ source, data }: MessageEvent<Verdict | "ready">) => {
      if (source !== element.contentWindow) return;
      if (data === "ready") return resolve(element.contentWindow as Window);
      waiting.get(data.id)?.(data);
      waiting.delete(data.id);
    });
    document.body.append(element);
  });
  return frame;
}

/**
 * @throws RewardProblem - what the code threw, or that it cannot be read
 * @throws reward - no answer in time
 */
const inSandbox =
  (code: string): RewardFunction =>
  async (batch) => {
    const id = ++asked;
    const window = await sandbox();
    const verdict = await new Promise<Verdict>((resolve) => {
      waiting.set(id, resolve);
      window.postMessage({ id, code, batch, limit: LIMIT } satisfies Question, "*");
    });
    if ("scores" in verdict) return verdict.scores as number[];
    if ("late" in verdict)
      fail("reward", {
        where: YOURS,
        found: `no answer within ${verdict.late / 1000} seconds for ${batch.length} responses`,
        expected: "one number for each response",
        fix: "look for a loop that never ends",
      });
    throw new RewardProblem(verdict.name, verdict.message, verdict.line);
  };

/** Scores of a batch. @throws {@link RewardProblem}, and `reward` for anything but one finite number for each response */
export const typedScores = (code: string, batch: readonly RewardSample[]): Promise<number[]> =>
  askReward(inSandbox(code), batch, "yours");

const example = (prompt: string, response: string, i: number): RewardSample => ({
  prompt,
  response,
  text: prompt + response,
  responseWithSpecialTokens: response,
  textWithSpecialTokens: prompt + response,
  promptTokens: [1, 2],
  tokens: [3, 4, 5],
  row: {},
  group: i,
  copy: 0,
});

/** Ask a reward about a good, a bad and an empty response, before anything is trained. */
export const tryOut = (code: string): Promise<number[]> =>
  typedScores(code, [
    example("The film", " was wonderful, and I would see it again!", 0),
    example("The film", " was dull and far too long.", 1),
    example("The film", "", 2),
  ]);

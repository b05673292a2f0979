/** @file Prompts as token ids, checked against the context before anything is trained. */
import { fail } from "../base/errors.ts";
import type { GPT2Config } from "../gpt2/config.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/**
 * int32 ids of each prompt. An empty prompt is the end-of-text token: a response from nothing.
 * @throws data - a prompt that leaves no room for the response
 */
export function encodePrompts(
  prompts: readonly string[],
  tokenizer: Tokenizer,
  config: GPT2Config,
  maxNewTokens: number,
): Int32Array[] {
  const room = config.nPositions - maxNewTokens;
  if (room < 1)
    fail("config", {
      where: "maxNewTokens",
      found: String(maxNewTokens),
      expected: `less than the model's context of ${config.nPositions} tokens`,
      fix: "lower maxNewTokens",
    });
  return prompts.map((prompt, i) => {
    const ids = tokenizer.encode(prompt);
    if (ids.length > room)
      fail("data", {
        where: `prompt ${i + 1} (${JSON.stringify(prompt.slice(0, 40))}...)`,
        found: `${ids.length} tokens`,
        expected: `at most ${room}: the context of ${config.nPositions} less ${maxNewTokens} for the response`,
        fix: "shorten the prompt or lower maxNewTokens",
      });
    if (ids.length > 0) return ids;
    if (tokenizer.eosTokenId !== null) return Int32Array.of(tokenizer.eosTokenId);
    return fail("data", {
      where: `prompt ${i + 1}`,
      found: "no tokens",
      expected: "at least one, and this tokenizer has no end-of-text token to start from",
      fix: "remove the empty prompt",
    });
  });
}

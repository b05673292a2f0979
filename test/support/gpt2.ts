/** @file A GPT-2 without weights. */
import { type GPT2Config, gpt2, makeConfig } from "../../src/families/gpt2.ts";
import { architecture } from "../../src/model/family.ts";

/** The architecture of a GPT-2; what is left out of the config is transformers' default. */
export const gpt2Of = (config: Partial<GPT2Config> = {}) => architecture(gpt2, makeConfig(config));

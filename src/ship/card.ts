/** @file The model card of a checkpoint: README.md as the hub reads it, with the YAML that it wants in front. */
import { shellQuote } from "../base/shell.ts";
import { EMBEDDED } from "../checkpoint/hub.ts";

/** What a card says. */
export interface CardFacts {
  /** What the code in the card opens: a directory, or a hub id. */
  id: string;
  /** Name of the algorithm. */
  algorithm: string;
  /** Steps taken. */
  step: number;
  /** What it was trained from: a hub id, a path, or null for a model from scratch. */
  baseModel: string | null;
  /** Whether that is a model of the hub, which may be linked to. */
  onHub: boolean;
  /** What it learned from, in words: names of files, numbers. */
  data: readonly string[];
  /** The reward: a built-in name or the name of a file. Undefined: the algorithm has none. */
  reward?: string;
  /** Options that were not left at their defaults. */
  options: Readonly<Record<string, unknown>>;
  /** Of a model that answered conversations: the messages that the code in the card asks with. Undefined: it goes on with a text. */
  messages?: readonly { role: string; content: string }[];
  /** Numbers of the last step, by name. */
  metrics: Readonly<Record<string, number>>;
  /** Of a reward model or a classifier: the name of each output. Undefined: it is a language model. */
  labels?: readonly string[];
  /** Whether the directory holds an adapter for its base model instead of whole weights. */
  adapter: boolean;
  /** Version of this library. */
  version: string;
}

export const CARD_FILE = "README.md";

/** Algorithms in words. */
const ALGORITHMS: Readonly<Record<string, string>> = {
  ppo: "PPO (proximal policy optimization, Schulman et al. 2017) with a value head",
  grpo: "GRPO (group relative policy optimization, Shao et al. 2024)",
  rloo: "RLOO (REINFORCE leave-one-out, Ahmadian et al. 2024)",
  dpo: "DPO (direct preference optimization, Rafailov et al. 2023)",
  sft: "supervised training on text",
  reward: "a reward model: a Bradley-Terry loss on preference pairs, or scores or labels learned",
};

/** Built-in rewards in words. */
const REWARDS: Readonly<Record<string, string>> = {
  positive: "`positive`: how positive the words of a response are (AFINN-165)",
  negative: "`negative`: how negative the words of a response are (AFINN-165)",
  length: "`length`: the length of a response",
};

/** Metrics that say most, where they were measured. */
const SHOWN = [
  ["env/reward_mean", "mean reward of the last step"],
  ["objective/kl", "KL to the reference, nats per response"],
  ["objective/entropy", "entropy, nats per response"],
  ["tokens/responses_len_mean", "mean length of responses, tokens"],
  ["eval/loss", "loss on held-out data"],
  ["eval/accuracy", "share of held-out pairs put in the right order, or of held-out texts with the right label"],
  ["eval/correlation", "correlation with the scores of held-out texts"],
] as const;

/** A value in YAML: JSON is YAML. */
const yaml = (value: unknown) => JSON.stringify(value);

/** Which reinforcement or other learning a hub's visitor looks for. */
const tagsOf = (algorithm: string) => [
  "valuehead",
  algorithm,
  ...(["ppo", "grpo", "rloo"].includes(algorithm) ? ["reinforcement-learning", "rlhf"] : []),
];

function frontMatter({ algorithm, baseModel, onHub, adapter, labels }: CardFacts): string {
  const lines = [
    `library_name: ${adapter ? "peft" : "transformers"}`,
    `pipeline_tag: ${labels ? "text-classification" : "text-generation"}`,
    ...(onHub && baseModel !== null ? [`base_model: ${yaml(baseModel)}`] : []),
    ...(onHub && baseModel !== null ? [`base_model_relation: ${adapter ? "adapter" : "finetune"}`] : []),
    "tags:",
    ...tagsOf(algorithm).map((tag) => `  - ${tag}`),
  ];
  return `---\n${lines.join("\n")}\n---\n`;
}

const oneLine = (text: string) => text.replaceAll(/\s+/g, " ").replaceAll("|", "\\|");
const row = (name: string, value: string) => `| ${name} | ${oneLine(value)} |`;
const number = (x: number) => String(Number(x.toPrecision(4)));

/** How a text is gone on with, or a conversation answered, in each of the languages. */
function usage(messages: CardFacts["messages"]): { ts: string; python: string; js: string } {
  if (messages === undefined)
    return {
      ts: `const { responses } = await generate(model, [tokenizer.encode("Hello")], { maxNewTokens: 20, topK: 1 });
console.log(tokenizer.decode(responses[0].tokens));`,
      python: `ids = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=20, do_sample=False)
print(tokenizer.decode(ids[0]))`,
      js: `const [{ generated_text }] = await write("Hello", { max_new_tokens: 20, do_sample: false });
console.log(generated_text);`,
    };
  const said = JSON.stringify(messages); // Python reads it as it stands: texts alone
  return {
    ts: `const messages = ${said};
const { ids } = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
const { responses } = await generate(model, [ids], { maxNewTokens: 20, topK: 1 });
console.log(tokenizer.decode(responses[0].tokens, { skipSpecialTokens: true }));`,
    python: `messages = ${said}
asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
ids = model.generate(**asked, max_new_tokens=20, do_sample=False)
print(tokenizer.decode(ids[0, asked["input_ids"].shape[1]:], skip_special_tokens=True))`,
    js: `const messages = ${said};
const [{ generated_text }] = await write(messages, { max_new_tokens: 20, do_sample: false });
console.log(generated_text.at(-1).content);`,
  };
}

/** How a text is judged, in each of the languages. */
const judging = (
  id: string,
  labels: readonly string[],
) => `In Node, with valuehead, as a reward (${labels.length > 1 ? "the logit of a label" : "its one output"}):

\`\`\`ts
import { encodeJudgements, loadClassifier, loadTokenizer } from "valuehead";

const judge = await loadClassifier(${JSON.stringify(id)});
const tokenizer = await loadTokenizer(judge.directory!);
const { endOfText } = judge.classifier;
const given = [{ text: "This movie was great.", score: 0 }]; // the score is not read
const { texts } = encodeJudgements(given, tokenizer, judge.sizes, { endOfText });
console.log(judge.labels, await judge.outputs(texts));
\`\`\`

\`\`\`sh
npx valuehead train --prompts prompts.txt --reward ${shellQuote(`model:${id}${labels.length > 1 ? `#${labels.at(-1)}` : ""}`)} --out run
\`\`\`

In Python, with transformers:

\`\`\`python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(id)})
model = AutoModelForSequenceClassification.from_pretrained(${JSON.stringify(id)})
print(model(**tokenizer("This movie was great.", return_tensors="pt")).logits)
\`\`\`
`;

/** The text of a card. Its code runs as it stands where `id` can be opened. */
export function modelCard(facts: CardFacts): string {
  const { id, algorithm, step, baseModel, onHub, data, reward, options, metrics, adapter, version } = facts;
  const base =
    baseModel === null
      ? "a model from scratch"
      : onHub
        ? `[${baseModel}](https://huggingface.co/${baseModel})`
        : `\`${baseModel}\`${baseModel === EMBEDDED ? ", which comes with valuehead" : ""}`;
  const use = usage(facts.messages);
  const measured = SHOWN.filter(([name]) => Number.isFinite(metrics[name]));
  const given = Object.entries(options);
  const shown = (value: unknown) => `\`${JSON.stringify(value)}\``;
  const python = adapter
    ? ["from peft import AutoPeftModelForCausalLM as AutoModel", "from transformers import AutoTokenizer"]
    : ["from transformers import AutoModelForCausalLM as AutoModel, AutoTokenizer"];
  return `${frontMatter(facts)}
# ${base.startsWith("[") ? (baseModel as string).split("/").at(-1) : baseModel === null ? "A language model" : baseModel.split("/").at(-1)}, ${algorithm.toUpperCase()}, step ${step}

${facts.labels ? (facts.labels.length > 1 ? `A classifier of texts (${facts.labels.join(", ")})` : "A reward model") : `${adapter ? "An adapter for a" : "A"} causal language model`}, trained with valuehead ${version}.

| | |
|---|---|
${[
  row("trained from", base),
  row("algorithm", ALGORITHMS[algorithm] ?? algorithm),
  row("steps", String(step)),
  ...(reward === undefined
    ? []
    : [row("reward", REWARDS[reward] ?? `\`${reward}\`, a reward function of its author's`)]),
  ...data.map((words) => row("data", words)),
  ...measured.map(([name, words]) => row(words, number(metrics[name]))),
].join("\n")}
${given.length > 0 ? `\nOptions other than the defaults: ${given.map(([name, value]) => `\`${name}\` ${shown(value)}`).join(", ")}.\n` : ""}
${reward === undefined ? "What it has seen beyond this is what its base model has." : "It was trained to score high on that reward. Whatever the reward does not see, it may have got worse at."} Nobody has checked it for safety or
for facts: see the limits of the model it was trained from.

## Use it

${facts.labels ? judging(id, facts.labels) : writing(facts, use, python)}
<!-- valuehead: the code opens ${JSON.stringify(id)} -->
`;
}

const writing = ({ id, adapter }: CardFacts, use: ReturnType<typeof usage>, python: readonly string[]) =>
  `In Node, with valuehead:

\`\`\`ts
import { generate, loadModel, loadTokenizer } from "valuehead";

const model = await loadModel(${JSON.stringify(id)});
const tokenizer = await loadTokenizer(model.directory!);
${use.ts}
\`\`\`

In Python, with transformers${adapter ? " and peft" : ""}:

\`\`\`python
${python.join("\n")}

tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(id)})
model = AutoModel.from_pretrained(${JSON.stringify(id)})
${use.python}
\`\`\`

In a browser or in Node, with transformers.js: first make the ONNX form of it,

\`\`\`sh
npx valuehead export --model ${shellQuote(id)} --out onnx-model
\`\`\`

\`\`\`js
import { pipeline } from "@huggingface/transformers";

const write = await pipeline("text-generation", "./onnx-model", { dtype: "fp32" });
${use.js}
\`\`\`
`;

/** What the code of a card opens; undefined for a card of another origin. */
const openedBy = (card: string): string | undefined => {
  const found = /<!-- valuehead: the code opens ("(?:[^"\\]|\\.)*") -->/.exec(card);
  return found ? JSON.parse(found[1]) : undefined;
};

/** A card whose code opens something else: the hub id under which it is published. One of another origin stays as it is. */
export function cardFor(card: string, id: string): string {
  const old = openedBy(card);
  if (old === undefined) return card;
  return card
    .replaceAll(JSON.stringify(old), () => JSON.stringify(id))
    .replaceAll(`--model ${shellQuote(old)} `, () => `--model ${shellQuote(id)} `)
    .replaceAll(`model:${old}`, () => `model:${id}`);
}

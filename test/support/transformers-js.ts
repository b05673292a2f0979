/** @file @huggingface/transformers as a user of an export has it: offline, from a directory. What of it is used here has its types here. */

interface JsTensor {
  data: Float32Array | BigInt64Array;
  dims: number[];
}

export interface JsModel {
  (inputs: Record<string, unknown>): Promise<{ logits: JsTensor; [present: string]: JsTensor }>;
  generate(options: Record<string, unknown>): Promise<JsTensor>;
  dispose(): Promise<unknown>;
}

export interface JsTokenizer {
  (texts: string | string[], options?: object): { input_ids: JsTensor; attention_mask: JsTensor };
  padding_side: "left" | "right";
  apply_chat_template(messages: unknown, options?: object): string;
}

interface TransformersJS {
  env: { allowRemoteModels: boolean; localModelPath: string };
  Tensor: new (type: string, data: BigInt64Array, dims: number[]) => JsTensor;
  DynamicCache: new (entries: Record<string, JsTensor>) => object;
  pipeline(
    task: "text-generation",
    model: string,
    options: object,
  ): Promise<
    ((prompt: unknown, options: object) => Promise<{ generated_text: string }[]>) & { dispose(): Promise<void> }
  >;
  AutoModelForCausalLM: { from_pretrained(model: string, options: object): Promise<JsModel> };
  AutoTokenizer: { from_pretrained(model: string): Promise<JsTokenizer> };
}

/** The library, told never to use the network. */
export async function transformersJS(): Promise<TransformersJS> {
  const name = "@huggingface/transformers"; // not written into the import: its types are large, and two of them clash with ours
  const library = (await import(name)) as TransformersJS;
  library.env.allowRemoteModels = false;
  return library;
}

/** Rows of ids, padded on the left with `pad`, as the inputs of a model. */
export async function leftPadded(rows: readonly ArrayLike<number>[], pad = 0) {
  const { Tensor } = await transformersJS();
  const width = Math.max(...rows.map(({ length }) => length));
  const ids = new BigInt64Array(rows.length * width).fill(BigInt(pad));
  const mask = new BigInt64Array(rows.length * width);
  rows.forEach((row, b) => {
    for (let i = 0; i < row.length; i++) {
      ids[(b + 1) * width - row.length + i] = BigInt(row[i]);
      mask[(b + 1) * width - row.length + i] = 1n;
    }
  });
  const dims = [rows.length, width];
  return { input_ids: new Tensor("int64", ids, dims), attention_mask: new Tensor("int64", mask, dims) };
}

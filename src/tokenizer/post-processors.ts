/** @file The post-processors of a `tokenizer.json`: the tokens that are put around a text. */
import type { TokenizerPartJSON } from "./parts.ts";

export type Template = (ids: number[]) => number[];

interface TemplateItem {
  SpecialToken?: { id: string };
  Sequence?: { id: string };
}

/** Identity for null and for what changes offsets only. @throws Error - a type that is not known */
export function createTemplate(json: TokenizerPartJSON | null | undefined): Template {
  if (json === null || json === undefined) return (ids) => ids;
  switch (json.type) {
    case "ByteLevel":
      return (ids) => ids;
    case "TemplateProcessing": {
      const special = (json.special_tokens ?? {}) as Record<string, { ids: number[] }>;
      const items = ((json.single ?? []) as TemplateItem[]).map((item) => {
        if (item.SpecialToken === undefined) return item.Sequence?.id === "A" ? null : [];
        const name = item.SpecialToken.id;
        if (special[name] === undefined)
          throw new Error(`a template with ${name}, which is not among its special_tokens`);
        return special[name].ids;
      });
      return (ids) => items.flatMap((item) => item ?? ids);
    }
    case "BertProcessing":
    case "RobertaProcessing": {
      const [, start] = json.cls as [string, number];
      const [, end] = json.sep as [string, number];
      return (ids) => [start, ...ids, end];
    }
    case "Sequence": {
      const parts = ((json.processors ?? []) as TokenizerPartJSON[]).map(createTemplate);
      return (ids) => parts.reduce((all, part) => part(all), ids);
    }
    default:
      throw new Error(`Unknown PostProcessor type: ${json.type}`);
  }
}

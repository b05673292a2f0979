/** @file The normalizers of a `tokenizer.json`, as Hugging Face's tokenizers 0.23 applies them. */

import type { TokenizerPartJSON } from "./parts.ts";
import { compilePattern, type PatternJSON, spacesAfter, spacesBefore, WHITE_SPACE } from "./patterns.ts";
import { precompiledNormalizer } from "./precompiled.ts";
import { spellBytes } from "./spelling.ts";

export type Normalizer = (text: string) => string;

/** Identity for null. @throws Error - a type that is not known */
export function createNormalizer(json: TokenizerPartJSON | null | undefined): Normalizer {
  if (json === null || json === undefined) return (text) => text;
  switch (json.type) {
    case "Sequence": {
      const parts = ((json.normalizers ?? []) as TokenizerPartJSON[]).map(createNormalizer);
      return (text) => parts.reduce((t, part) => part(t), text);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = json.type;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      return lowercase;
    case "Strip":
      return strip(json.strip_left !== false, json.strip_right !== false);
    case "StripAccents":
      return (text) => text.replace(/\p{M}/gu, "");
    case "Replace": {
      const pattern = compilePattern(json.pattern as PatternJSON);
      const content = String(json.content ?? "");
      return (text) => text.replace(pattern, () => content);
    }
    case "Prepend": {
      const prefix = String(json.prepend ?? "");
      return (text) => (text === "" ? text : prefix + text);
    }
    case "Precompiled": {
      const map = json.precompiled_charsmap;
      return typeof map === "string" && map !== "" ? precompiledNormalizer(map) : (text) => text;
    }
    case "Nmt":
      return nmt;
    case "BertNormalizer":
      return bert(json);
    case "ByteLevel":
      return spellBytes;
    default:
      throw new Error(`Unknown Normalizer type: ${json.type}`);
  }
}

/** Character by character: a final sigma is not looked for. */
function lowercase(text: string): string {
  let out = "";
  for (const character of text) out += character.toLowerCase();
  return out;
}

function strip(left: boolean, right: boolean): Normalizer {
  return (text) => {
    const start = left ? spacesAfter(text, 0) : 0;
    return text.slice(start, right ? text.length - spacesBefore(text.slice(start), text.length - start) : text.length);
  };
}

/** SentencePiece's nmt_nfkc without the NFKC. */
function nmt(text: string): string {
  return text
    .replace(/(?![\t\n\f\r\u0080-\u008e\u0090-\u009e])\p{Cc}/gu, (control) => (control === "\0" ? control : ""))
    .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu, " ");
}

const BERT_CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bert(json: TokenizerPartJSON): Normalizer {
  const lower = json.lowercase !== false;
  const accents = json.strip_accents ?? lower;
  const [control, space] = [/(?![\t\n\r])[\ufffd\p{Cc}\p{Cf}\p{Cn}\p{Co}]/gu, new RegExp(WHITE_SPACE, "gu")];
  return (text) => {
    let t = text;
    if (json.clean_text !== false) t = t.replace(control, "").replace(space, " ");
    if (json.handle_chinese_chars !== false) t = t.replace(BERT_CHINESE, " $& ");
    if (accents) t = t.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowercase(t) : t;
  };
}

/** @file What a user may call a model. */

/** The model that comes with the package. */
export const EMBEDDED = "tiny";

/** What cannot be a hub id and can only be meant as a path. */
export const looksLikePath = (id: string) =>
  /^[./~]|[\\]|^[A-Za-z]:|\/$|\/.*\//.test(id) || id.endsWith(".safetensors") || id.endsWith(".bin");

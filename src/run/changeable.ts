/** @file What can be allowed to change when a run is resumed. */

/** What a resumed run may be given anew if that is allowed: docs/resuming.md has the table. */
export type Changeable = "prompts" | "evaluation" | "model" | "options";

export const changeable: readonly Changeable[] = ["prompts", "evaluation", "model", "options"];

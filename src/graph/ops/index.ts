/** @file The operations that programs of the library are built of. Those of exported models alone are in exported.ts, all of them in registry.ts. */
export * from "./elementwise.ts";
export * from "./gather.ts";
export * from "./inference.ts";
export * from "./linear.ts";
export * from "./normalize.ts";
export * from "./reduce.ts";
export * from "./shape.ts";

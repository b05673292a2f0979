/**
 * @file Weights on their way to workers: what is trained, tensor by tensor, each with its SHA-256. A version is named by these sums, so it
 * is what it is called, wherever it comes from; an object holds the tensors that changed since the version before.
 */
import { z } from "zod";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { namesAbove } from "../model/parameters.ts";
import { sha256Of } from "../platform/hash.ts";
import type { Connection } from "./connection.ts";
import { frame, unframe } from "./messages.ts";

const sum = z.string().regex(/^[0-9a-f]{64}$/);
const manifestSchema = z.object({
  /** In the order of the model's table; `at` is the version whose object holds it. */
  tensors: z
    .array(z.object({ name: z.string().max(1000), sha256: sum, at: z.union([sum, z.literal("")]) }))
    .max(100_000),
  /** Which of them are in this object, one after another. */
  here: z.array(z.number().int().min(0)),
});
type Tensors = z.infer<typeof manifestSchema>["tensors"];

type Store = Pick<Connection, "putObject" | "getObject" | "deleteObject">;

/** The name of a version: what is in it, not where it lies. */
const versionOf = (tensors: Tensors) => sha256Of(tensors.map(({ name, sha256 }) => `${name} ${sha256}\n`));
const objectOf = (version: string) => `weights-${version}`;

const bytesOf = (view: Float32Array) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
export const sumOfTensor = (view: Float32Array): string => sha256Of([bytesOf(view)]);

/** Names of what workers need beside the base: what is trained, and what differs from the base otherwise. */
export function namesToSend(
  model: CausalLMWithValueHead,
  base: CausalLMWithValueHead,
  frozenLayers: number,
): { names: string[]; onlyTrained: boolean } {
  const { table } = model.parameters;
  const trained = namesAbove(model, table, frozenLayers);
  const differs = (name: string) => {
    if (!base.parameters.has(name)) return true;
    const [mine, theirs] = [model.parameters.numbers(name), base.parameters.numbers(name)];
    return mine !== theirs && sumOfTensor(mine) !== sumOfTensor(theirs);
  };
  const others = table.filter(({ name }) => !trained.has(name) && differs(name)).map(({ name }) => name);
  const names = table.map(({ name }) => name).filter((name) => trained.has(name) || others.includes(name));
  return { names, onlyTrained: others.length === 0 };
}

/** The trainer's side: publishes a model's weights as they are. */
export class WeightsSender {
  readonly #model: CausalLMWithValueHead;
  readonly #names: readonly string[];
  #tensors: Tensors = [];
  #version = "";
  /** Versions whose objects are on the server, the newest last, each with those whose objects it needs. */
  #kept = new Map<string, ReadonlySet<string>>();
  /** Those of them that the server has not lost. */
  readonly #there = new Set<string>();
  /** Bytes of the last object. */
  bytes = 0;

  constructor(model: CausalLMWithValueHead, names: readonly string[]) {
    this.#model = model;
    this.#names = names;
  }

  /**
   * Put what changed since the last time on the server.
   * @param model whose weights they are, where they are not those of now
   * @param used  versions that are still asked for, beside this one and the last
   * @returns the version
   */
  async send(
    connection: Store,
    run: string,
    { model = this.#model, used = [] }: { model?: CausalLMWithValueHead; used?: Iterable<string> } = {},
  ): Promise<string> {
    const { parameters } = model;
    await parameters.refresh(this.#names);
    const before = new Map(this.#tensors.map((tensor) => [tensor.name, tensor]));
    const sums = this.#names.map((name) => ({ name, sha256: sumOfTensor(parameters.numbers(name)), at: "" }));
    const version = versionOf(sums);
    if (this.#there.has(version)) return version;
    const here: number[] = [];
    sums.forEach((tensor, i) => {
      const old = before.get(tensor.name);
      if (old?.sha256 === tensor.sha256) tensor.at = old.at === "" ? this.#version : old.at;
      else here.push(i);
    });
    const body = here.map((i) => bytesOf(parameters.numbers(sums[i].name)));
    const object = frame({ tensors: sums, here }, body);
    await connection.putObject(run, objectOf(version), object);
    this.bytes = object.length;
    this.#tensors = sums;
    this.#version = version;
    const last = [...this.#kept.keys()].at(-1) ?? version;
    this.#there.add(version);
    this.#kept.delete(version); // sent again it is the newest
    this.#kept.set(version, new Set([version, ...sums.map(({ at }) => at)]));
    const needed = new Set([version, last, ...used].flatMap((one) => [...(this.#kept.get(one) ?? [])]));
    for (const old of [...this.#kept.keys()]) {
      if (needed.has(old)) continue;
      this.#kept.delete(old);
      this.#there.delete(old);
      await connection.deleteObject(run, objectOf(old));
    }
    return version;
  }

  /** Send everything anew the next time: the server may have lost it. */
  forget(): void {
    this.#tensors = [];
    this.#version = "";
    this.#there.clear();
  }
}

/** A weights object that is not what its name says. */
export class WrongWeights extends Error {
  override readonly name = "WrongWeights";
}

/** A worker's side: brings a model to a version. */
export class WeightsReceiver {
  readonly #model: CausalLMWithValueHead;
  readonly #sums = new Map<string, string>();
  /** The version that the model has now. */
  version = "";
  /** Bytes fetched so far. */
  bytes = 0;

  constructor(model: CausalLMWithValueHead) {
    this.#model = model;
  }

  /**
   * Nothing of the model changes unless all of it is there and right.
   * @throws WrongWeights - tensors that the model does not have, or whose SHA-256 is another
   */
  async load(connection: Store, run: string, version: string): Promise<void> {
    if (version === this.version) return;
    const { tensors, here } = await this.#fetch(connection, run, version);
    if (versionOf(tensors) !== version)
      throw new WrongWeights(`weights of another version than ${version.slice(0, 12)}`);
    const missing = tensors.filter(({ name, sha256 }) => this.#sums.get(name) !== sha256);
    const found = new Map(here);
    for (const at of new Set(missing.filter(({ name }) => !found.has(name)).map((tensor) => tensor.at)))
      if (at !== "")
        for (const [name, bytes] of (await this.#fetch(connection, run, at)).here)
          if (!found.has(name)) found.set(name, bytes);
    const { parameters } = this.#model;
    const checked = missing.map(({ name, sha256 }) => {
      const bytes = found.get(name);
      if (!parameters.has(name)) throw new WrongWeights(`a tensor ${name}, which the model does not have`);
      if (bytes === undefined) throw new WrongWeights(`no bytes of ${name}`);
      const view = parameters.view(name);
      if (bytes.length !== view.byteLength || sha256Of([bytes]) !== sha256)
        throw new WrongWeights(`${name} with another SHA-256 than it should have`);
      return { name, sha256, view, bytes };
    });
    this.version = "";
    for (const { name, sha256, view, bytes } of checked) {
      bytesOf(view).set(bytes);
      this.#sums.set(name, sha256);
    }
    this.version = version;
  }

  async #fetch(
    connection: Store,
    run: string,
    version: string,
  ): Promise<{ tensors: Tensors; here: Map<string, Uint8Array> }> {
    const object = await connection.getObject(run, objectOf(version));
    if (!object) throw new WrongWeights(`no weights ${version.slice(0, 12)} on the server`);
    this.bytes += object.length;
    let tensors: Tensors;
    let here: number[];
    let body: Uint8Array;
    try {
      ({
        header: { tensors, here },
        body,
      } = unframe(manifestSchema, object));
    } catch (error) {
      throw new WrongWeights(`an object that holds no weights (${(error as Error).message})`);
    }
    let at = 0;
    const found = new Map<string, Uint8Array>();
    for (const i of here) {
      const name = tensors[i]?.name ?? "";
      const size = this.#model.parameters.has(name) ? this.#model.parameters.slot(name).byteLength : 0;
      found.set(name, body.subarray(at, at + size));
      at += size;
    }
    return { tensors, here: found };
  }
}

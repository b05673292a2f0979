/**
 * @file The body of a model: embeddings and blocks, forwards and backwards. One program for each kind of block, run once a
 * layer with that layer's weights; activations live in pooled buffers that this file hands from program to program.
 */
import type { DeviceBuffer, Slot } from "../backend/backend.ts";
import type { Engine } from "../backend/engine.ts";
import type { BufferPool } from "../backend/pool.ts";
import { Memo } from "../base/memo.ts";
import { accumulate } from "../graph/gradient.ts";
import { type ForwardBackward, forwardBackward, type Keep } from "../graph/partition.ts";
import { elementCount, input } from "../graph/tensor.ts";
import { packedFeeds, packingOf, rotaryFeeds, wholeSequences } from "./attend.ts";
import type { Architecture } from "./family.ts";
import { alikeLayers, type Parameter, type ParameterBuffer, parameterTable, rowsOfBlock } from "./parameters.ts";
import { asStored } from "./products.ts";
import type { PickedRows, Rows } from "./rows.ts";

/** Token ids of B rows, each a sequence, right-padded to T, or several one after another, which may have a beginning in common. */
export interface Tokens {
  /** int32 [B, T]; padding may be any id. */
  readonly ids: Int32Array;
  /** Rows. */
  readonly B: number;
  /** Tokens of each, padding included. */
  readonly T: number;
  /**
   * Where each token stands in its own sequence, [B, T]: 0 begins another, which sees nothing of those before it. A position p that
   * does not follow the one before it branches off: what comes sees the first p tokens of the sequence it is in, and itself.
   * undefined: a row is one sequence.
   */
  readonly positions?: Int32Array;
}

/** What a forward pass keeps for the backward pass. Buffers go back to the pool in {@link Body.backward}. */
export interface Activations {
  readonly tokens: Tokens;
  /** What blocks are fed of the tokens' places. */
  readonly places: Readonly<Record<string, Slot>>;
  /** Nothing in the blocks below is trained: of them nothing is kept. */
  readonly from: number;
  /** The stream before each block and after the last: layers - from + 1 buffers [N, C]. */
  readonly streams: DeviceBuffer[];
  /** What each block's forward program saved, by name. */
  readonly saved: Record<string, DeviceBuffer>[];
}

/** What a block's programs depend on, beside the architecture. */
export interface BlockForm {
  /** A layer with the same parameters. */
  like: number;
  B: number;
  T: number;
  /** Rows hold several sequences. */
  packing?: "apart" | "branching";
  /** The factor on q kᵀ. */
  scale: number;
  keep: Keep;
  /** Names within the block of what gets a gradient. */
  trained: readonly string[];
  /** Whether the stream before it gets one. */
  passesOn: boolean;
  /** Gradients are added to what is there. */
  accumulates: boolean;
}

/** Rotary positions [T, D / 2], kept for the lengths met last. */
const LENGTHS_KEPT = 16;

export class Body {
  readonly #architecture: Architecture;
  readonly #table: readonly Parameter[];
  readonly #alike: readonly number[];
  readonly #engine: Engine;
  readonly #pool: BufferPool;
  readonly #rows: Rows;
  /** Layers share programs unless attention is scaled by layer, or not the same parameters are there or trained. */
  readonly #programs = new Memo((form: BlockForm) => blockPrograms(this.#architecture, this.#table, form));
  readonly #positions = new Memo(
    (T: number): Record<string, Slot> =>
      rotaryFeeds(
        this.#architecture,
        Array.from({ length: T }, (_, t) => t),
      ),
    LENGTHS_KEPT,
  );

  constructor(architecture: Architecture, engine: Engine, pool: BufferPool, rows: Rows) {
    this.#architecture = architecture;
    this.#table = parameterTable(architecture);
    this.#alike = alikeLayers(this.#table);
    this.#engine = engine;
    this.#pool = pool;
    this.#rows = rows;
  }

  /**
   * Hidden states before the final norm, [N, C] with N = B T, in a pooled buffer the caller releases.
   * @param layers blocks to go through; default: all
   */
  async hidden(
    params: ParameterBuffer,
    tokens: Tokens,
    layers = this.#architecture.sizes.layers,
  ): Promise<DeviceBuffer> {
    const length = tokens.B * tokens.T * this.#architecture.sizes.width;
    let x = this.#pool.take(length);
    let y = this.#pool.take(length);
    await this.embed(params, tokens, x);
    const places = this.#places(tokens);
    for (let layer = 0; layer < layers; layer++) {
      const { forward } = this.#block(tokens, layer, "nothing", UNTRAINED, false);
      await this.#engine.run(forward, { x, ...places, ...params.block(layer) }, { y });
      [x, y] = [y, x];
    }
    this.#pool.release(y);
    return x;
  }

  /**
   * The same, keeping what the backward pass needs. The result is the last of `streams`.
   * @param grads has the parameters that are trained
   */
  async forward(
    params: ParameterBuffer,
    tokens: Tokens,
    grads: ParameterBuffer,
    keep: Keep = "heavy",
  ): Promise<Activations> {
    const { width: C, layers } = this.#architecture.sizes;
    const from = this.#firstTrained(grads);
    const streams = [await this.hidden(params, tokens, from)];
    const places = this.#places(tokens);
    const saved: Record<string, DeviceBuffer>[] = [];
    for (let layer = from; layer < layers; layer++) {
      const program = this.#block(tokens, layer, keep, this.#trained(grads, layer, from), false);
      const buffers = Object.fromEntries([...program.saved].map(([n, t]) => [n, this.#pool.take(elementCount(t))]));
      const y = this.#pool.take(tokens.B * tokens.T * C);
      const feeds = { x: streams[layer - from], ...places, ...params.block(layer) };
      await this.#engine.run(program.forward, feeds, { y, ...buffers });
      streams.push(y);
      saved.push(buffers);
    }
    return { tokens, places, from, streams, saved };
  }

  /**
   * Gradients of every body parameter that `grads` has, given that of the last stream.
   * @param dHidden    [N, C], overwritten
   * @param grads      receives the gradients
   * @param accumulate add to what `grads` holds instead of replacing it
   * @param tied       the head has written a gradient of the token embedding before this runs: that is added to
   */
  async backward(
    params: ParameterBuffer,
    kept: Activations,
    dHidden: DeviceBuffer,
    grads: ParameterBuffer,
    accumulate: boolean,
    tied: boolean,
    keep: Keep = "heavy",
  ): Promise<void> {
    const { tokens, places, from, streams, saved } = kept;
    let dy = dHidden;
    let dx = this.#pool.take(dHidden.length);
    for (let layer = this.#architecture.sizes.layers - 1; layer >= from; layer--) {
      const trained = this.#trained(grads, layer, from);
      const { backward } = this.#block(tokens, layer, keep, trained, accumulate);
      const feeds = {
        x: streams[layer - from],
        ...places,
        dy,
        ...saved[layer - from],
        ...params.block(layer),
        ...(accumulate ? grads.block(layer, "before.") : {}),
      };
      await this.#engine.run(backward, feeds, { "d.x": dx, ...grads.block(layer, "d.") });
      this.#pool.release(streams[layer - from + 1], ...Object.values(saved[layer - from]));
      [dy, dx] = [dx, dy];
    }
    await this.#embedBackward(tokens, dy, grads, { accumulate, tied });
    this.#pool.release(streams[0], dx === dHidden ? dy : dx);
  }

  /**
   * x[n] = sum over the embedding tables of table[index[n]], index the token or its position.
   * @param first int32 [B], where each row's first token stands; default 0
   */
  async embed(params: ParameterBuffer, tokens: Tokens, x: DeviceBuffer, first?: Int32Array): Promise<void> {
    const sources = this.#embeddings().map(
      ({ name, by }): PickedRows => ({ from: params.slot(name), rows: embeddingRows(by, tokens, first) }),
    );
    await this.#rows.gather(sources, x);
  }

  /** d table[index[n]] += dx[n], for the tables that are trained. */
  async #embedBackward(
    tokens: Tokens,
    dx: DeviceBuffer,
    grads: ParameterBuffer,
    { accumulate, tied }: { accumulate: boolean; tied: boolean },
  ): Promise<void> {
    for (const [i, { name, by }] of this.#embeddings().entries()) {
      if (!grads.has(name)) continue;
      const rows = embeddingRows(by, tokens);
      await this.#rows.add(grads.slot(name), { from: dx, rows }, !accumulate && !(tied && i === 0));
    }
  }

  /** Rotary positions count on over a row of sequences side by side: only how far two tokens are apart enters. */
  #places({ positions, T }: Tokens): Readonly<Record<string, Slot>> {
    return { ...this.#positions.get(T), ...(positions && packedFeeds(this.#architecture, positions, T)) };
  }

  #embeddings() {
    const { family, config } = this.#architecture;
    return family.embeddings(config);
  }

  /** The lowest block that a gradient must reach: 0 for an embedding, `layers` when nothing below the heads is trained. */
  #firstTrained(grads: ParameterBuffer): number {
    if (this.#embeddings().some(({ name }) => grads.has(name))) return 0;
    return Math.min(this.#architecture.sizes.layers, ...grads.table.flatMap(({ layer }) => layer ?? []));
  }

  /** What of a block's program depends on what is trained, when gradients end at block `from`. */
  #trained(grads: ParameterBuffer, layer: number, from: number): Pick<BlockForm, "trained" | "passesOn"> {
    const trained = grads.table.filter((row) => row.layer === layer).map(({ short }) => short);
    return { trained, passesOn: layer > from || this.#embeddings().some(({ name }) => grads.has(name)) };
  }

  #block(
    { B, T, positions }: Tokens,
    layer: number,
    keep: Keep,
    trained: Pick<BlockForm, "trained" | "passesOn">,
    accumulates: boolean,
  ): ForwardBackward {
    const { family, config } = this.#architecture;
    const [like, scale] = [this.#alike[layer], family.attentionScale(config, layer)];
    const packing = packingOf(positions, T);
    return this.#programs.get({ like, B, T, packing, scale, keep, ...trained, accumulates });
  }
}

/**
 * Forward and backward program of a block. The memory estimate builds them too, and runs nothing.
 * @param table the architecture's
 */
export function blockPrograms(
  architecture: Architecture,
  table: readonly Parameter[],
  { like, B, T, packing, scale, keep, trained, passesOn, accumulates }: BlockForm,
): ForwardBackward {
  const { family, config, sizes } = architecture;
  const x = input("x", { N: B * T, C: sizes.width });
  const masks = {
    packed: packing === "apart",
    positionsByRow: packing === "branching",
    biasByRow: packing === "branching",
  };
  const { attend } = wholeSequences(architecture, { B, T, scale, ...masks });
  const { p, product } = asStored(rowsOfBlock(table, like));
  const y = family.block(config, x, p, attend, product);
  return forwardBackward(
    "block",
    { y },
    { y: input("dy", y.shape) },
    { ...(passesOn ? { x } : {}), ...Object.fromEntries(trained.map((name) => [name, p[name]])) },
    {
      keep,
      finish: (name, g) => (accumulates && name !== "x" ? accumulate(input(`before.${name}`, g.shape), g) : g),
    },
  );
}

/** Of a pass that is not differentiated. */
export const UNTRAINED = { trained: [], passesOn: false };

/** The row of an embedding table that each token reads, int32 [B T]. */
function embeddingRows(by: "token" | "position", { ids, T, positions }: Tokens, first?: Int32Array): Int32Array {
  if (by === "token") return ids;
  if (positions) return positions;
  return Int32Array.from(ids, (_, n) => (first ? first[Math.floor(n / T)] : 0) + (n % T));
}

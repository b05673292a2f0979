/** @file Weights on their way: what changed and nothing else, and not a byte that is not as it was. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { namesToSend, WeightsReceiver, WeightsSender } from "../../../src/distributed/weights.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";

const shape = { vocabSize: 64, nPositions: 16, nEmbd: 8, nLayer: 2, nHead: 2, eosTokenId: 63, bosTokenId: 63 };
const newModel = () => GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { seed: 1, threads: 1 });

/** Objects in memory. */
class Store {
  readonly objects = new Map<string, Uint8Array>();
  async putObject(_: string, name: string, bytes: Uint8Array) {
    this.objects.set(name, bytes.slice());
  }
  async getObject(_: string, name: string) {
    return this.objects.get(name)?.slice();
  }
  async deleteObject(_: string, name: string) {
    this.objects.delete(name);
  }
}

function setUp(lora = false) {
  const [policy, reference, theirs] = [newModel(), newModel(), newModel()];
  if (lora) for (const model of [policy, theirs]) model.addAdapter({ rank: 2 }, 7);
  const { names } = namesToSend(policy, reference, 0);
  return {
    policy,
    names,
    store: new Store(),
    sender: new WeightsSender(policy, names),
    theirs,
    receiver: new WeightsReceiver(theirs),
  };
}

test("a version is the SHA-256 of its tensors, and a model that loads it has them", async () => {
  const { policy, names, store, sender, theirs, receiver } = setUp();
  policy.parameters.data.forEach((_, i, data) => {
    data[i] = Math.sin(i);
  });
  const version = await sender.send(store, "r");
  const sums = names.map((name) => {
    const view = policy.parameters.view(name);
    const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
    return `${name} ${createHash("sha256").update(bytes).digest("hex")}\n`;
  });
  expect(version).toBe(createHash("sha256").update(sums.join("")).digest("hex"));
  await receiver.load(store, "r", version);
  expect(theirs.parameters.data).toEqual(policy.parameters.data);
});

test("only what changed is sent; one who comes later finds the rest where it was", async () => {
  const { policy, store, sender, theirs, receiver } = setUp();
  const first = await sender.send(store, "r");
  await receiver.load(store, "r", first);
  const whole = sender.bytes;
  policy.parameters.view("transformer.h.1.mlp.c_fc.weight").fill(0.5);
  const second = await sender.send(store, "r");
  expect(second).not.toBe(first);
  // The header grows by where each of the others lies.
  expect(sender.bytes).toBeLessThan(whole - 4 * (policy.parameters.data.length - 8 * 32) + 2500);
  await receiver.load(store, "r", second);
  expect(theirs.parameters.data).toEqual(policy.parameters.data);
  const late = newModel();
  await new WeightsReceiver(late).load(store, "r", second);
  expect(late.parameters.data).toEqual(policy.parameters.data);
  policy.parameters.view("transformer.h.1.mlp.c_fc.weight").fill(0.25);
  const third = await sender.send(store, "r");
  const later = newModel();
  await new WeightsReceiver(later).load(store, "r", third);
  expect(later.parameters.data).toEqual(policy.parameters.data);
});

test("versions that are still asked for stay, and are there again when the server has lost everything", async () => {
  const { policy, names, store, sender } = setUp();
  const view = policy.parameters.view("transformer.h.1.mlp.c_fc.weight");
  const copies = new Map<string, ReturnType<typeof newModel>>();
  const used = () => copies.keys();
  for (const value of [0.5, 0.25, 0.125]) {
    view.fill(value);
    copies.set(await sender.send(store, "r", { used: used() }), policy.frozenCopy());
  }
  const theirs = newModel();
  const receiver = new WeightsReceiver(theirs);
  const loadAll = async () => {
    for (const [version, { parameters }] of [...copies].reverse()) {
      await receiver.load(store, "r", version);
      for (const name of names) expect(theirs.parameters.view(name), name).toEqual(parameters.view(name));
      const fresh = newModel();
      await new WeightsReceiver(fresh).load(store, "r", version);
      for (const name of names) expect(fresh.parameters.view(name), name).toEqual(parameters.view(name));
    }
  };
  await loadAll();
  store.objects.clear();
  sender.forget();
  for (const [version, model] of copies) expect(await sender.send(store, "r", { model, used: used() })).toBe(version);
  await loadAll();
  for (const [version, model] of copies) await sender.send(store, "r", { model, used: [version] }); // they are there: nothing is sent
  await loadAll();
  const [first] = copies.keys();
  for (const value of [1, 2, 3]) {
    view.fill(value);
    await sender.send(store, "r");
  }
  expect(store.objects.has(`weights-${[...copies.keys()][1]}`)).toBe(false);
  expect(store.objects.has(`weights-${first}`)).toBe(true); // the others' tensors are in it
});

test("of a model with an adapter that and the value head are sent", async () => {
  const { policy, names, store, sender, theirs, receiver } = setUp(true);
  expect(names.every((name) => /lora_|^v_head/.test(name))).toBe(true);
  for (const name of names) policy.parameters.view(name).fill(0.125);
  await receiver.load(store, "r", await sender.send(store, "r"));
  for (const name of names) expect(theirs.parameters.view(name), name).toEqual(policy.parameters.view(name));
});

test("an object with one bit changed is refused, and the model stays as it was", async () => {
  const { store, sender, theirs, receiver } = setUp();
  const version = await sender.send(store, "r");
  const [[name, bytes]] = store.objects;
  const before = theirs.parameters.data.slice();
  for (const place of [bytes.length - 1, Math.floor(bytes.length / 2), 200, 5]) {
    const wrong = bytes.slice();
    wrong[place] ^= 4;
    store.objects.set(name, wrong);
    await expect(receiver.load(store, "r", version)).rejects.toThrow();
    expect(theirs.parameters.data).toEqual(before);
  }
  store.objects.set(name, bytes);
  await receiver.load(store, "r", version);
  store.objects.clear();
  await expect(receiver.load(store, "r", "f".repeat(64))).rejects.toThrow("no weights ffffffffffff on the server");
});

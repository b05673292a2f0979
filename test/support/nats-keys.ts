/** @file What a guarded NATS server is started with: certificates by openssl; operator, accounts and users by keys of NATS itself. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { nkeys } from "@nats-io/transport-node";

export const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
if (!hasOpenssl) console.warn("left out: tests of TLS, for openssl is not installed");

function openssl(directory: string, ...args: string[]): void {
  const { status, stderr } = spawnSync("openssl", args, { cwd: directory, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
}

/** `NAME.pem` and `NAME.key`, signed by themselves, or by another pair in the directory. @returns their paths */
export function certificate(directory: string, name: string, signer?: string): { cert: string; key: string } {
  const made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
  const subject = ["-subj", `/CN=${name}`];
  if (signer === undefined)
    openssl(directory, "req", "-x509", ...made, ...subject, "-days", "2", "-out", `${name}.pem`);
  else {
    openssl(directory, "req", ...made, ...subject, "-out", `${name}.csr`);
    writeFileSync(join(directory, `${name}.ext`), "subjectAltName=IP:127.0.0.1\n");
    const by = ["-CA", `${signer}.pem`, "-CAkey", `${signer}.key`, "-CAcreateserial", "-extfile", `${name}.ext`];
    openssl(directory, "x509", "-req", "-in", `${name}.csr`, ...by, "-days", "2", "-out", `${name}.pem`);
  }
  return { cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`) };
}

type Key = ReturnType<typeof nkeys.createUser>;
const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64url");

/** A claim about a key, signed by another: what `nsc` writes. */
function jwt(subject: Key, issuer: Key, nats: object): string {
  const [sub, iss] = [subject.getPublicKey(), issuer.getPublicKey()];
  const claims = { jti: sub, iat: Math.floor(Date.now() / 1000), iss, name: sub.slice(0, 6), sub, nats };
  const said = `${base64(JSON.stringify({ typ: "JWT", alg: "ed25519-nkey" }))}.${base64(JSON.stringify(claims))}`;
  return `${said}.${base64(issuer.sign(new TextEncoder().encode(said)))}`;
}

const none = (...names: string[]) => Object.fromEntries(names.map((name) => [name, -1]));
const LIMITS = { ...none("subs", "data", "payload", "imports", "exports", "conn", "leaf"), wildcards: true };
/** Of JetStream, which the account of the system may not have. */
const STORE = none("mem_storage", "disk_storage", "streams", "consumer");

/**
 * A server's configuration and a user's credentials file.
 * @returns a stranger's credentials too: of an account that the server does not know
 */
export function credentials(directory: string): { config: string; file: string; stranger: string; seed: string } {
  const [operator, system, account, other] = [
    nkeys.createOperator(),
    nkeys.createAccount(),
    nkeys.createAccount(),
    nkeys.createAccount(),
  ];
  const ofAccount = (key: Key, limits: object) => jwt(key, operator, { limits, type: "account", version: 2 });
  const accounts = [
    [system, LIMITS],
    [account, { ...LIMITS, ...STORE }],
  ] as const;
  const preload = accounts.map(([key, limits]) => `${key.getPublicKey()}: "${ofAccount(key, limits)}"`);
  const config = join(directory, "operator.conf");
  writeFileSync(
    config,
    `operator: "${jwt(operator, operator, { type: "operator", version: 2 })}"
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload: { ${preload.join(", ")} }
`,
  );
  const user = nkeys.createUser();
  const seed = new TextDecoder().decode(user.getSeed());
  const ofUser = (by: Key) => {
    const token = jwt(user, by, { subs: -1, data: -1, payload: -1, type: "user", version: 2 });
    return `-----BEGIN NATS USER JWT-----
${token}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${seed}
------END USER NKEY SEED------
`;
  };
  const [file, stranger] = [join(directory, "user.creds"), join(directory, "stranger.creds")];
  writeFileSync(file, ofUser(account));
  writeFileSync(stranger, ofUser(other));
  return { config, file, stranger, seed };
}

/** Uses every part of `favorites.ts`. All that it puts it deletes again. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { type Copy, Favorites, keyOf, Refused } from "./favorites.js";

const INSTRUMENT = "DE0007164600";

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

/** Connects as the calling service that the environment names, with inboxes of its own. */
function connectFromEnvironment(): Promise<NatsConnection> {
  const user = variable("GOFAVORITES_USER");
  const caFile = process.env["GOFAVORITES_TLS_CA"];
  return connect({
    servers: variable("GOFAVORITES_URL").split(","),
    user,
    pass: variable("GOFAVORITES_PASSWORD"),
    inboxPrefix: process.env["GOFAVORITES_INBOX_PREFIX"] ?? `_INBOX.${user}`,
    maxReconnectAttempts: -1,
    ...(caFile ? { tls: { caFile } } : {}),
  });
}

async function showFavorites(favorites: Favorites): Promise<void> {
  const sap = { isin: INSTRUMENT, type: "stock", ticker: "SAP" };
  const item = { kind: "instrument", id: INSTRUMENT, data: sap, tags: ["example"] };
  const put = await favorites.put(item);
  console.log(`put ${put.id} at version ${put.version}`);

  try {
    await favorites.put({ ...item, data: { ...sap, currency: "Eur" } });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(`refused: ${error.code} (${error.status}), ${error.field}`);
  }

  const { items } = await favorites.list();
  console.log(`listed ${items.length}, with ${INSTRUMENT}: ${items.some((item) => item.id === INSTRUMENT)}`);
  const { item: got, stale = false } = await favorites.get("instrument", INSTRUMENT);
  console.log(`got ${got.data?.["ticker"]} at version ${got.version}, stale: ${stale}`);
}

async function showSecrets(favorites: Favorites): Promise<void> {
  const uri = "otpauth://totp/Example:me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
  await favorites.put({ kind: "otp", id: "example", data: { uri } });
  console.log(`a code of ${(await favorites.otpCode("example")).length} digits`);

  await favorites.put({ kind: "codes", id: "example", data: { codes: ["4417-2093", "8605-3316"] } });
  const { code, remaining } = await favorites.takeCode("example");
  console.log(`took ${code}, ${remaining} left`);
}

/** Follows the changes until the last write, from where an earlier run stopped if its copy was stored. */
async function showChanges(favorites: Favorites): Promise<void> {
  const path = process.env["EXAMPLE_COPY"];
  const stored = path && existsSync(path) ? readFileSync(path, "utf8") : undefined;
  const copy: Copy = stored ? JSON.parse(stored) : { items: {}, since: 0 };

  for await (const changed of favorites.follow(copy)) {
    for (const item of changed) {
      if (stored && item.deleted) console.log(`deleted since then: ${keyOf(item)}`);
    }
    if (changed.some((item) => keyOf(item) === "codes/example")) break;
  }
  console.log(`followed the changes, and hold ${Object.keys(copy.items).length} items`);
  if (path) writeFileSync(path, JSON.stringify(copy));
}

async function remove(favorites: Favorites): Promise<void> {
  for (const [kind, id] of [["instrument", INSTRUMENT], ["otp", "example"], ["codes", "example"]] as const) {
    await favorites.delete(kind, id).catch((error: unknown) => {
      if (!(error instanceof Refused && error.code === "not_found")) throw error;
    });
  }
}

const connection = await connectFromEnvironment();
const timeoutMs = Number(process.env["EXAMPLE_TIMEOUT_S"] ?? "10") * 1_000;
const favorites = new Favorites(connection, variable("GOFAVORITES_TOKEN"), timeoutMs);

await remove(favorites); // What an earlier run may have left.
await showFavorites(favorites);
await showSecrets(favorites);
await showChanges(favorites);
await remove(favorites);
console.log("deleted all three");
await connection.close();

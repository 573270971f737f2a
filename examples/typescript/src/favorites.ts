/**
 * A client of GoFavorites. All users share one connection; a `Favorites` is one user's view of it.
 *
 * - A write is repeated under one request id until its outcome is known, so it is executed once.
 * - A read contains at least what the same object has read and written before.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { errors, headers, type NatsConnection, type Subscription } from "@nats-io/transport-node";

const TRY_MS = 2_000; // How long one try of a request may take.
const PAUSE_MS = 100; // The pause before the next try, unless the service asks for a longer one.
const POLL_MS = 15_000; // A notification may be lost, so `follow` also asks after this time.

/** Refusals of a repeated write that say nothing about the try before it. */
const UNSETTLED = ["unauthenticated", "forbidden", "internal"];

export interface Item {
  kind: string;
  id: string;
  version: number;
  /** A deleted item has no data, metadata and tags. */
  deleted?: true;
  data?: Record<string, unknown>;
  meta?: Record<string, string>;
  tags?: string[];
}

/** A copy of a user's items, by `kind/id`, and how far it has come. Store all of it, as JSON, or begin with none. */
export interface Copy {
  items: Record<string, Item>;
  since: number;
  epoch?: string | undefined;
}

/** The key of an item in a copy. */
export const keyOf = ({ kind, id }: { kind: string; id: string }) => `${kind}/${id}`;

export interface WriteOptions {
  /** Write only if the item is at this version. 0: only if it does not exist. */
  ifVersion?: number | undefined;
  /** The id of a write that is in doubt, to find out what became of it. */
  requestId?: string | undefined;
}

interface Page {
  items: Item[];
  owner_version: number;
  stale?: true;
  next_cursor?: string;
}

interface Changes extends Page {
  floor: number;
  epoch?: string;
  more: boolean;
  notify: string;
}

interface ErrorBody {
  code: string;
  status: number;
  message: string;
  details: { field?: string; retry_after_ms?: number; [name: string]: unknown };
}

/** No worker answered in time. Nothing was written. */
export class NoAnswer extends Error {}

/** The write may be executed, now or later. Repeat it with this request id to find out. */
export class InDoubt extends Error {
  constructor(readonly requestId: string, cause: unknown) {
    super(`the write ${requestId} is in doubt`, { cause });
  }
}

/** The service refused the request. Branch on `code`. */
export class Refused extends Error {
  readonly code: string;
  readonly status: number;
  readonly details: ErrorBody["details"];
  readonly field: string | undefined;

  constructor({ code, status, message, details }: ErrorBody) {
    super(message);
    this.code = code;
    this.status = status;
    this.details = details;
    this.field = details.field;
  }

  /** Whether the same request may succeed later. */
  get mayPass(): boolean {
    return "retry_after_ms" in this.details || ["deadline_exceeded", "in_doubt"].includes(this.code);
  }
}

/** One user's favourites. A request takes at most `timeoutMs`, with all its tries. */
export class Favorites {
  #seen = 0; // The highest version of the owner in any reply.
  #epoch: string | undefined; // The history to which that version belongs, if known.

  constructor(
    private readonly connection: NatsConnection,
    private readonly token: string,
    private readonly timeoutMs = 10_000,
  ) {}

  /** Stores an item. Without data, one that exists keeps its data. Metadata and tags are replaced in any case. */
  async put(item: Pick<Item, "kind" | "id" | "data" | "meta" | "tags">, options: WriteOptions = {}): Promise<Item> {
    const { kind, id, data, meta, tags } = item;
    return (await this.#write<{ item: Item }>("put", { kind, id, data, meta, tags }, options)).item;
  }

  async delete(kind: string, id: string, options: WriteOptions = {}): Promise<Item> {
    return (await this.#write<{ item: Item }>("delete", { kind, id }, options)).item;
  }

  /** Returns the next code of a list, and how many are left. */
  takeCode(id: string, requestId?: string): Promise<{ code: string; remaining: number }> {
    return this.#write("codes.take", { id }, { requestId });
  }

  /**
   * Returns a code of an otp. With HOTP this is a write, which uses a counter up. The body is always
   * the same, so a request id can be repeated. So another shard may not have a new otp yet.
   */
  async otpCode(id: string, requestId?: string): Promise<string> {
    return (await this.#write<{ code: string }>("otp.code", { id }, { requestId })).code;
  }

  /** Returns an item. The reply is `stale` if it may be old because the bucket is out of reach. */
  get(kind: string, id: string): Promise<{ item: Item; stale?: true }> {
    return this.#read("get", { kind, id });
  }

  /** Returns all items, and whether they may be stale. */
  async list(): Promise<{ items: Item[]; stale: boolean }> {
    const items: Item[] = [];
    let stale = false;
    let cursor: string | undefined;
    do {
      const page: Page = await this.#read("list", { cursor });
      items.push(...page.items);
      stale ||= page.stale ?? false;
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    return { items, stale };
  }

  /**
   * Keeps the copy up to date, and yields what changed, deletions included. After `resync_required`
   * it yields all items, and a deletion with version 0 for each that has vanished. Throws if the
   * service is unavailable for too long. Follow again with the same copy then.
   */
  async *follow(copy: Copy): AsyncGenerator<Item[], void> {
    let wake = () => {};
    let subscription: Subscription | undefined;
    try {
      for (;;) {
        const changed = new Promise<void>((resolve) => (wake = resolve));
        const found = await this.#catchUp(copy).catch((error: unknown) => {
          if (error instanceof Refused && error.code === "resync_required") return undefined;
          throw error;
        });
        if (found === undefined) {
          Object.assign(copy, { since: 0, epoch: undefined }); // Fetch everything.
          continue;
        }
        if (found.items.length > 0) yield found.items;
        if (subscription === undefined) {
          // Then ask again: something may have changed before the subscription.
          subscription = this.connection.subscribe(found.notify, { callback: () => wake() });
          await this.connection.flush();
          continue;
        }
        await Promise.race([changed, sleep(POLL_MS, undefined, { ref: false })]);
      }
    } finally {
      subscription?.unsubscribe();
    }
  }

  /** Asks for all pages of changes. Only then changes the copy. */
  async #catchUp(copy: Copy): Promise<{ items: Item[]; notify: string }> {
    const items: Item[] = [];
    let { since, epoch } = copy;
    let floor: number | undefined;
    let reply: Changes;
    do {
      reply = await this.#call<Changes>("changes", { since, epoch, floor });
      items.push(...reply.items);
      since = items.at(-1)?.version ?? since;
      epoch = reply.epoch;
      if (copy.since === 0) floor ??= reply.floor; // That of the first reply.
    } while (reply.more);

    if (copy.since === 0) {
      // These are all items: the others have vanished.
      const found = new Set(items.map(keyOf));
      const vanished = Object.values(copy.items).filter((item) => !found.has(keyOf(item)));
      items.push(...vanished.map(({ kind, id }): Item => ({ kind, id, version: 0, deleted: true })));
    }
    for (const item of items) {
      if (item.deleted) delete copy.items[keyOf(item)];
      else copy.items[keyOf(item)] = item;
    }
    Object.assign(copy, { since: reply.owner_version, epoch });
    this.#epoch = epoch;
    return { items, notify: reply.notify };
  }

  /** Asks for a reply that contains everything that was seen before. */
  async #read<Reply>(operation: string, body: { cursor?: string | undefined; [name: string]: unknown }) {
    const seen = this.#seen > 0 ? { min_version: this.#seen, epoch: this.#epoch } : {};
    try {
      return await this.#call<Reply>(operation, { ...body, ...seen });
    } catch (error) {
      const refused = error instanceof Refused ? error : undefined;
      if (refused?.code !== "resync_required" && refused?.field !== "min_version") throw error;
      this.#seen = 0; // The bucket has another history now.
      this.#epoch = undefined;
      if (body.cursor !== undefined) throw error; // The first pages are from the old one.
      return await this.#call<Reply>(operation, body);
    }
  }

  #write<Reply>(operation: string, body: object, { ifVersion, requestId }: WriteOptions): Promise<Reply> {
    return this.#call<Reply>(operation, { ...body, if_version: ifVersion }, requestId ?? randomUUID());
  }

  /**
   * Sends a request, and again if that is safe, until it is settled or the time is up. Only a write
   * has an id.
   */
  async #call<Reply>(operation: string, body: object, requestId?: string): Promise<Reply> {
    const payload = JSON.stringify(body);
    const deadline = Date.now() + this.timeoutMs;
    let inDoubt = false;
    let failure: Error = new NoAnswer("no time is left");
    for (let leftMs = this.timeoutMs; leftMs > 0; leftMs = deadline - Date.now()) {
      let pauseMs = PAUSE_MS;
      try {
        return (await this.#try(operation, payload, requestId, Math.min(TRY_MS, leftMs))) as Reply;
      } catch (error) {
        if (error instanceof Refused) {
          inDoubt ||= error.code === "in_doubt";
          if (requestId && inDoubt && UNSETTLED.includes(error.code)) throw new InDoubt(requestId, error);
          if (!error.mayPass) throw error;
          failure = error;
          pauseMs = Math.max(PAUSE_MS, error.details.retry_after_ms ?? 0);
        } else if (error instanceof errors.RequestError && error.isNoResponders()) {
          failure = new NoAnswer("no worker is there", { cause: error });
        } else if (error instanceof errors.RequestError || error instanceof errors.TimeoutError) {
          failure = new NoAnswer("no answer in time", { cause: error });
          inDoubt = requestId !== undefined;
        } else if (requestId && (inDoubt || !(error instanceof errors.InvalidArgumentError))) {
          throw new InDoubt(requestId, error); // It may have been sent, for instance if the connection was closed.
        } else {
          throw error; // It was a read, or it was not sent.
        }
      }
      if (Date.now() + pauseMs + PAUSE_MS > deadline) break;
      await sleep(pauseMs);
    }
    throw requestId && inDoubt ? new InDoubt(requestId, failure) : failure;
  }

  async #try(operation: string, payload: string, requestId: string | undefined, timeout: number): Promise<unknown> {
    const head = headers();
    head.set("Authorization", `Bearer ${this.token}`);
    head.set("Request-Timeout-Ms", String(timeout));
    if (requestId) head.set("Nats-Msg-Id", requestId);

    const message = await this.connection.request(`favorites.v1.${operation}`, payload, { headers: head, timeout });
    const reply = message.json<{ owner_version: number; error?: ErrorBody }>();
    if (reply.error) throw new Refused(reply.error);
    this.#seen = Math.max(this.#seen, reply.owner_version);
    return reply;
  }
}

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
  updated_at: string;
  /** A deleted item has no data, metadata and tags. */
  deleted?: true;
  data?: Record<string, unknown>;
  meta?: Record<string, string>;
  tags?: string[];
}

/** A copy of a user's items, and how far it has come. It can be stored. */
export interface Copy {
  items: Map<string, Item>;
  since: number;
  epoch?: string | undefined;
}

/** The key of an item in a copy. */
export const keyOf = (item: { kind: string; id: string }) => JSON.stringify([item.kind, item.id]);

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

  async put(item: Pick<Item, "kind" | "id" | "data" | "meta" | "tags">, requestId = randomUUID()): Promise<Item> {
    return (await this.#call<{ item: Item }>("put", item, requestId)).item;
  }

  async delete(kind: string, id: string, requestId = randomUUID()): Promise<Item> {
    return (await this.#call<{ item: Item }>("delete", { kind, id }, requestId)).item;
  }

  /** Returns the next code of a list, and how many are left. */
  takeCode(id: string, requestId = randomUUID()): Promise<{ code: string; remaining: number }> {
    return this.#call("codes.take", { id }, requestId);
  }

  /** Returns a code of an otp. With HOTP this is a write, which uses a counter up. */
  async otpCode(id: string, requestId = randomUUID()): Promise<string> {
    return (await this.#call<{ code: string }>("otp.code", { id, ...this.#atLeast() }, requestId)).code;
  }

  /** Returns an item. The reply is `stale` if it may be old because the bucket is out of reach. */
  get(kind: string, id: string): Promise<{ item: Item; stale?: true }> {
    return this.#call("get", { kind, id, ...this.#atLeast() });
  }

  /** Returns all items, and whether they may be stale. */
  async list(): Promise<{ items: Item[]; stale: boolean }> {
    const items: Item[] = [];
    let stale = false;
    let cursor: string | undefined;
    do {
      const page: Page = await this.#call("list", { cursor, ...this.#atLeast() });
      items.push(...page.items);
      stale ||= page.stale ?? false;
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    return { items, stale };
  }

  /**
   * Keeps the copy up to date, and yields what changed, deletions included. Throws if the service
   * is unavailable for too long. Follow again with the same copy then.
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
          Object.assign(copy, { since: 0, epoch: undefined }); // Fetch everything, and drop the rest.
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

    if (copy.since === 0) copy.items.clear();
    for (const item of items) {
      if (item.deleted) copy.items.delete(keyOf(item));
      else copy.items.set(keyOf(item), item);
    }
    Object.assign(copy, { since: reply.owner_version, epoch });
    this.#epoch = epoch;
    return { items, notify: reply.notify };
  }

  /** Returns the fields with which a reply contains everything that was seen before. */
  #atLeast(): { min_version?: number; epoch?: string | undefined } {
    return this.#seen > 0 ? { min_version: this.#seen, epoch: this.#epoch } : {};
  }

  /** Sends a request, and again if that is safe, until it is settled or the time is up. */
  async #call<Reply>(operation: string, body: object, requestId?: string): Promise<Reply> {
    const deadline = Date.now() + this.timeoutMs;
    let inDoubt = false;
    for (;;) {
      let pauseMs = PAUSE_MS;
      let failure: Error;
      try {
        return (await this.#try(operation, body, requestId, deadline - Date.now())) as Reply;
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
          inDoubt = requestId !== undefined; // Only a write has one.
        } else {
          throw error;
        }
      }
      if (Date.now() + pauseMs + PAUSE_MS > deadline) {
        throw requestId && inDoubt ? new InDoubt(requestId, failure) : failure;
      }
      await sleep(pauseMs);
    }
  }

  async #try(operation: string, body: object, requestId: string | undefined, leftMs: number): Promise<unknown> {
    const timeout = Math.min(TRY_MS, leftMs);
    const head = headers();
    head.set("Authorization", `Bearer ${this.token}`);
    head.set("Request-Timeout-Ms", String(timeout));
    if (requestId) head.set("Nats-Msg-Id", requestId);

    const subject = `favorites.v1.${operation}`;
    const message = await this.connection.request(subject, JSON.stringify(body), { headers: head, timeout });
    const reply = message.json<{ owner_version: number; error?: ErrorBody }>();
    if (reply.error) {
      const refused = new Refused(reply.error);
      if (refused.code === "resync_required" || refused.field === "min_version") {
        this.#seen = 0; // The bucket has another history now.
        this.#epoch = undefined;
      }
      throw refused;
    }
    this.#seen = Math.max(this.#seen, reply.owner_version);
    return reply;
  }
}

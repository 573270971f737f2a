// Package favorites is a client of GoFavorites. All users share one connection; a Client is one user's view of it.
//
//   - A write is repeated under one request id until its outcome is known, so it is executed once.
//   - A read contains at least what the same Client has read and written before.
//
// The context of a call limits the time of all its tries; without a deadline they may take 10 seconds.
package favorites

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	callTime = 10 * time.Second       // How long a call may take, if its context has no deadline.
	tryTime  = 2 * time.Second        // How long one try of a request may take.
	pause    = 100 * time.Millisecond // The pause before the next try, unless the service asks for a longer one.
	pollTime = 15 * time.Second       // A notification may be lost, so Follow also asks after this time.
)

// unsettled are the refusals of a repeated write that say nothing about the try before it.
var unsettled = []string{"unauthenticated", "forbidden", "internal"}

// Item is an item. A deleted one has no data, metadata and tags.
type Item struct {
	Kind    string            `json:"kind"`
	ID      string            `json:"id"`
	Version uint64            `json:"version,omitempty"`
	Deleted bool              `json:"deleted,omitempty"`
	Data    map[string]any    `json:"data,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Tags    []string          `json:"tags,omitempty"`
}

// Key identifies an item of a user.
type Key struct{ Kind, ID string }

func (k Key) String() string { return k.Kind + "/" + k.ID }

// Key returns the key of the item.
func (i Item) Key() Key { return Key{i.Kind, i.ID} }

// Copy is a copy of a user's items, and how far it has come. Store all of it, as JSON, or begin with an empty one.
type Copy struct {
	Items map[string]Item `json:"items"` // By Key.String.
	Since uint64          `json:"since"`
	Epoch string          `json:"epoch,omitempty"`
}

// ErrNoAnswer means that no worker answered in time. Nothing was written.
var ErrNoAnswer = errors.New("no answer")

// InDoubtError means that a write may be executed, now or later. Repeat it with WithRequestID to find out.
type InDoubtError struct {
	RequestID string
	Cause     error
}

func (e *InDoubtError) Error() string { return "the write " + e.RequestID + " is in doubt" }
func (e *InDoubtError) Unwrap() error { return e.Cause }

// RefusedError means that the service refused the request. Branch on Code.
type RefusedError struct {
	Code    string `json:"code"`
	Status  int    `json:"status"`
	Message string `json:"message"`
	Details struct {
		Field        string `json:"field"`
		RetryAfterMS *int64 `json:"retry_after_ms"`
	} `json:"details"`
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Message) }

// MayPass reports whether the same request may succeed later.
func (e *RefusedError) MayPass() bool {
	return e.Details.RetryAfterMS != nil || e.Code == "deadline_exceeded" || e.Code == "in_doubt"
}

// Condition is a condition of a write.
type Condition func(body object)

// IfVersion lets a write happen only if the item is at this version. 0 means that the item does not exist.
func IfVersion(version uint64) Condition { return func(body object) { body["if_version"] = version } }

type requestIDKey struct{}

// WithRequestID returns a context in which the next write has this request id, and not a new one.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// Client is one user's view of the service. It may be used by several goroutines.
type Client struct {
	conn  *nats.Conn
	token string

	mutex sync.Mutex
	seen  uint64 // The highest version of the owner in any reply.
	epoch string // The history to which that version belongs, if known.
}

// New returns a client for the user with that token.
func New(conn *nats.Conn, token string) *Client { return &Client{conn: conn, token: token} }

type object map[string]any

// reply has the fields of all replies.
type reply struct {
	Item         Item          `json:"item"`
	Items        []Item        `json:"items"`
	OwnerVersion uint64        `json:"owner_version"`
	Stale        bool          `json:"stale"`
	NextCursor   string        `json:"next_cursor"`
	Code         string        `json:"code"`
	Remaining    int           `json:"remaining"`
	Floor        uint64        `json:"floor"`
	Epoch        string        `json:"epoch"`
	More         bool          `json:"more"`
	Notify       string        `json:"notify"`
	Error        *RefusedError `json:"error"`
}

// Put stores an item, and returns it as it is stored. Without data, an item that exists keeps its data. Metadata and
// tags are replaced in any case.
func (c *Client) Put(ctx context.Context, item Item, conditions ...Condition) (Item, error) {
	body := object{"kind": item.Kind, "id": item.ID}
	if item.Data != nil {
		body["data"] = item.Data
	}
	if item.Meta != nil {
		body["meta"] = item.Meta
	}
	if item.Tags != nil {
		body["tags"] = item.Tags
	}
	answer, err := c.write(ctx, "put", body, conditions...)
	return answer.Item, err
}

// Delete deletes an item.
func (c *Client) Delete(ctx context.Context, key Key, conditions ...Condition) (Item, error) {
	answer, err := c.write(ctx, "delete", object{"kind": key.Kind, "id": key.ID}, conditions...)
	return answer.Item, err
}

// TakeCode returns the next code of a list, and how many are left.
func (c *Client) TakeCode(ctx context.Context, id string) (code string, remaining int, err error) {
	answer, err := c.write(ctx, "codes.take", object{"id": id})
	return answer.Code, answer.Remaining, err
}

// OTPCode returns a code of an otp. With HOTP this is a write, which uses a counter up. The body is always the same, so
// a request id can be repeated. So another shard may not have a new otp yet.
func (c *Client) OTPCode(ctx context.Context, id string) (string, error) {
	answer, err := c.write(ctx, "otp.code", object{"id": id})
	return answer.Code, err
}

// Get returns an item, and whether it may be stale because the bucket is out of reach.
func (c *Client) Get(ctx context.Context, key Key) (item Item, stale bool, err error) {
	answer, err := c.read(ctx, "get", object{"kind": key.Kind, "id": key.ID})
	return answer.Item, answer.Stale, err
}

// List returns all items, and whether they may be stale.
func (c *Client) List(ctx context.Context) (items []Item, stale bool, err error) {
	page := object{}
	for {
		answer, err := c.read(ctx, "list", page)
		if err != nil {
			return nil, false, err
		}
		items = append(items, answer.Items...)
		stale = stale || answer.Stale
		if answer.NextCursor == "" {
			return items, stale, nil
		}
		page = object{"cursor": answer.NextCursor}
	}
}

// Follow keeps the copy up to date, and yields what changed, deletions included. After resync_required it yields all
// items, and a deletion with version 0 for each that has vanished. It ends with an error if ctx does, or if the service
// is unavailable for too long. Follow again with the same copy then.
func (c *Client) Follow(ctx context.Context, kept *Copy) iter.Seq2[[]Item, error] {
	return func(yield func([]Item, error) bool) {
		if kept.Items == nil {
			*kept = Copy{} // Changes after a version are of no use without what was there before.
		}
		changed := make(chan struct{}, 1)
		var subscription *nats.Subscription
		defer func() { _ = subscription.Unsubscribe() }()

		for {
			items, subject, err := c.catchUp(ctx, kept)
			var refused *RefusedError
			if errors.As(err, &refused) && refused.Code == "resync_required" {
				kept.Since, kept.Epoch = 0, "" // Fetch everything.
				continue
			}
			if err == nil && subscription == nil {
				// Then ask again: something may have changed before the subscription.
				subscription, err = c.conn.Subscribe(subject, func(*nats.Msg) { wake(changed) })
				err = errors.Join(err, c.conn.FlushTimeout(callTime))
				wake(changed)
			}
			if (err != nil || len(items) > 0) && !yield(items, err) || err != nil {
				return
			}
			select {
			case <-changed:
			case <-time.After(pollTime):
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

func wake(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default: // It is awake already.
	}
}

// catchUp asks for all pages of changes. Only then it changes the copy.
func (c *Client) catchUp(ctx context.Context, kept *Copy) (items []Item, subject string, err error) {
	page := object{"since": kept.Since}
	setEpoch(page, kept.Epoch)
	var answer reply
	for {
		if answer, err = c.call(ctx, "changes", page, ""); err != nil {
			return nil, "", err
		}
		items = append(items, answer.Items...)
		if !answer.More {
			break
		}
		page["since"] = items[len(items)-1].Version
		setEpoch(page, answer.Epoch)
		if _, known := page["floor"]; kept.Since == 0 && !known {
			page["floor"] = answer.Floor // That of the first reply.
		}
	}

	if kept.Since == 0 { // These are all items: the others have vanished.
		vanished := kept.Items
		kept.Items = map[string]Item{}
		for _, item := range items {
			delete(vanished, item.Key().String())
		}
		for _, item := range vanished {
			items = append(items, Item{Kind: item.Kind, ID: item.ID, Deleted: true})
		}
	}
	for _, item := range items {
		kept.Items[item.Key().String()] = item
		if item.Deleted {
			delete(kept.Items, item.Key().String())
		}
	}
	kept.Since, kept.Epoch = answer.OwnerVersion, answer.Epoch
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.epoch = answer.Epoch
	return items, answer.Notify, nil
}

func setEpoch(body object, epoch string) {
	if epoch != "" {
		body["epoch"] = epoch
	}
}

// read asks for a reply that contains everything that was seen before.
func (c *Client) read(ctx context.Context, operation string, body object) (reply, error) {
	asked := maps.Clone(body)
	c.mutex.Lock()
	if c.seen > 0 {
		asked["min_version"] = c.seen
		setEpoch(asked, c.epoch)
	}
	c.mutex.Unlock()

	answer, err := c.call(ctx, operation, asked, "")
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != "resync_required" && refused.Details.Field != "min_version" {
		return answer, err
	}
	c.mutex.Lock()
	c.seen, c.epoch = 0, "" // The bucket has another history now.
	c.mutex.Unlock()
	if _, later := body["cursor"]; later {
		return answer, err // The first pages are from the old one.
	}
	return c.call(ctx, operation, body, "")
}

func (c *Client) write(ctx context.Context, operation string, body object, conditions ...Condition) (reply, error) {
	for _, condition := range conditions {
		condition(body)
	}
	id, given := ctx.Value(requestIDKey{}).(string)
	if !given {
		id = nuid.Next()
	}
	return c.call(ctx, operation, body, id)
}

// call sends a request, and again if that is safe, until it is settled or the time is up. Only a write has an id.
func (c *Client) call(ctx context.Context, operation string, body object, id string) (reply, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = time.Now().Add(callTime)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	if ctx.Err() != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
	inDoubt := false
	for ctx.Err() == nil {
		var answer reply
		answer, err = c.try(ctx, operation, data, id)
		wait := pause
		var refused *RefusedError
		switch {
		case err == nil:
			return answer, nil
		case errors.As(err, &refused):
			inDoubt = inDoubt || refused.Code == "in_doubt"
			if inDoubt && slices.Contains(unsettled, refused.Code) {
				return reply{}, &InDoubtError{id, err}
			}
			if !refused.MayPass() {
				return reply{}, err
			}
			if refused.Details.RetryAfterMS != nil {
				wait = max(pause, time.Duration(*refused.Details.RetryAfterMS)*time.Millisecond)
			}
		case errors.Is(err, nats.ErrNoResponders):
			err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
			inDoubt = id != ""
		case id == "", !inDoubt && errors.Is(err, nats.ErrMaxPayload): // A read, or a write that was not sent.
			return reply{}, err
		default: // It may have been sent, for instance if the connection was closed.
			return reply{}, &InDoubtError{id, err}
		}

		if time.Until(deadline) < wait+pause {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	if inDoubt {
		err = &InDoubtError{id, err}
	}
	return reply{}, err
}

func (c *Client) try(ctx context.Context, operation string, data []byte, id string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	deadline, _ := ctx.Deadline()

	request := nats.NewMsg("favorites.v1." + operation)
	request.Data = data
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Request-Timeout-Ms", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	if id != "" {
		request.Header.Set("Nats-Msg-Id", id)
	}

	message, err := c.conn.RequestMsgWithContext(ctx, request)
	if err != nil {
		return reply{}, err
	}
	var answer reply
	if err := json.Unmarshal(message.Data, &answer); err != nil {
		return reply{}, err
	}

	if answer.Error != nil {
		return reply{}, answer.Error
	}

	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.seen = max(c.seen, answer.OwnerVersion)
	return answer, nil
}

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

// Copy is a copy of a user's items, and how far it has come. It can be stored.
type Copy struct {
	Items map[Key]Item
	Since uint64
	Epoch string
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

// Put stores an item, and returns it as it is stored.
func (c *Client) Put(ctx context.Context, item Item) (Item, error) {
	body := object{"kind": item.Kind, "id": item.ID, "data": item.Data}
	if item.Meta != nil {
		body["meta"] = item.Meta
	}
	if item.Tags != nil {
		body["tags"] = item.Tags
	}
	answer, err := c.write(ctx, "put", body)
	return answer.Item, err
}

// Delete deletes an item.
func (c *Client) Delete(ctx context.Context, key Key) (Item, error) {
	answer, err := c.write(ctx, "delete", object{"kind": key.Kind, "id": key.ID})
	return answer.Item, err
}

// TakeCode returns the next code of a list, and how many are left.
func (c *Client) TakeCode(ctx context.Context, id string) (code string, remaining int, err error) {
	answer, err := c.write(ctx, "codes.take", object{"id": id})
	return answer.Code, answer.Remaining, err
}

// OTPCode returns a code of an otp. With HOTP this is a write, which uses a counter up.
func (c *Client) OTPCode(ctx context.Context, id string) (string, error) {
	answer, err := c.write(ctx, "otp.code", c.atLeast(object{"id": id}))
	return answer.Code, err
}

// Get returns an item, and whether it may be stale because the bucket is out of reach.
func (c *Client) Get(ctx context.Context, key Key) (item Item, stale bool, err error) {
	answer, err := c.call(ctx, "get", c.atLeast(object{"kind": key.Kind, "id": key.ID}), "")
	return answer.Item, answer.Stale, err
}

// List returns all items, and whether they may be stale.
func (c *Client) List(ctx context.Context) (items []Item, stale bool, err error) {
	page := object{}
	for {
		answer, err := c.call(ctx, "list", c.atLeast(page), "")
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

// Follow keeps the copy up to date, and yields what changed, deletions included. It ends with an error if ctx does,
// or if the service is unavailable for too long. Follow again with the same copy then.
func (c *Client) Follow(ctx context.Context, kept *Copy) iter.Seq2[[]Item, error] {
	return func(yield func([]Item, error) bool) {
		changed := make(chan struct{}, 1)
		var subscription *nats.Subscription
		defer func() { _ = subscription.Unsubscribe() }()

		for {
			items, subject, err := c.catchUp(ctx, kept)
			var refused *RefusedError
			if errors.As(err, &refused) && refused.Code == "resync_required" {
				kept.Since, kept.Epoch = 0, "" // Fetch everything, and drop the rest.
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

	if kept.Since == 0 || kept.Items == nil {
		kept.Items = map[Key]Item{}
	}
	for _, item := range items {
		kept.Items[Key{item.Kind, item.ID}] = item
		if item.Deleted {
			delete(kept.Items, Key{item.Kind, item.ID})
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

// atLeast adds the fields with which a reply contains everything that was seen before.
func (c *Client) atLeast(body object) object {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.seen > 0 {
		body["min_version"] = c.seen
		setEpoch(body, c.epoch)
	}
	return body
}

func (c *Client) write(ctx context.Context, operation string, body object) (reply, error) {
	id, given := ctx.Value(requestIDKey{}).(string)
	if !given {
		id = nuid.Next()
	}
	return c.call(ctx, operation, body, id)
}

// call sends a request, and again if that is safe, until it is settled or the time is up. Only a write has an id.
func (c *Client) call(ctx context.Context, operation string, body object, id string) (reply, error) {
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = time.Now().Add(callTime)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	inDoubt := false
	for {
		answer, err := c.try(ctx, operation, body, id)
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
		default:
			return reply{}, err
		}

		if ctx.Err() != nil || time.Until(deadline) < wait+pause {
			if inDoubt {
				err = &InDoubtError{id, err}
			}
			return reply{}, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (c *Client) try(ctx context.Context, operation string, body object, id string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	deadline, _ := ctx.Deadline()

	request := nats.NewMsg("favorites.v1." + operation)
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Request-Timeout-Ms", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	if id != "" {
		request.Header.Set("Nats-Msg-Id", id)
	}

	var err error
	if request.Data, err = json.Marshal(body); err != nil {
		return reply{}, err
	}
	message, err := c.conn.RequestMsgWithContext(ctx, request)
	if err != nil {
		return reply{}, err
	}
	var answer reply
	if err := json.Unmarshal(message.Data, &answer); err != nil {
		return reply{}, err
	}

	c.mutex.Lock()
	defer c.mutex.Unlock()
	if refused := answer.Error; refused != nil {
		if refused.Code == "resync_required" || refused.Details.Field == "min_version" {
			c.seen, c.epoch = 0, "" // The bucket has another history now.
		}
		return reply{}, refused
	}
	c.seen = max(c.seen, answer.OwnerVersion)
	return answer, nil
}

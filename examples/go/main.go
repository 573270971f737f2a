// Uses every part of the package favorites. All that it puts it deletes again.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"gofavorites.example/go/favorites"
)

var (
	instrument = favorites.Key{Kind: "instrument", ID: "DE0007164600"}
	otp        = favorites.Key{Kind: "otp", ID: "example"}
	codes      = favorites.Key{Kind: "codes", ID: "example"}
)

// connect connects as the calling service that the environment names, with inboxes of its own.
func connect() (*nats.Conn, error) {
	for _, name := range []string{"URL", "USER", "PASSWORD", "TOKEN"} {
		if os.Getenv("GOFAVORITES_"+name) == "" {
			return nil, fmt.Errorf("GOFAVORITES_%s is not set", name)
		}
	}
	user := os.Getenv("GOFAVORITES_USER")
	options := []nats.Option{
		nats.UserInfo(user, os.Getenv("GOFAVORITES_PASSWORD")),
		nats.CustomInboxPrefix(cmp.Or(os.Getenv("GOFAVORITES_INBOX_PREFIX"), "_INBOX."+user)),
		nats.MaxReconnects(-1),
	}
	if authority := os.Getenv("GOFAVORITES_TLS_CA"); authority != "" {
		options = append(options, nats.RootCAs(authority))
	}
	return nats.Connect(os.Getenv("GOFAVORITES_URL"), options...)
}

func showFavorites(ctx context.Context, client *favorites.Client) error {
	sap := favorites.Item{Kind: instrument.Kind, ID: instrument.ID, Tags: []string{"example"},
		Data: map[string]any{"isin": instrument.ID, "type": "stock", "ticker": "SAP"}}
	put, err := client.Put(ctx, sap)
	if err != nil {
		return err
	}
	fmt.Printf("put %s at version %d\n", put.ID, put.Version)

	sap.Data["currency"] = "Eur"
	var refused *favorites.RefusedError
	if _, err = client.Put(ctx, sap); errors.As(err, &refused) {
		fmt.Printf("refused: %s (%d), %s\n", refused.Code, refused.Status, refused.Details.Field)
	} else if err != nil {
		return err
	}

	items, _, err := client.List(ctx)
	if err != nil {
		return err
	}
	isListed := slices.ContainsFunc(items, func(item favorites.Item) bool { return item.ID == instrument.ID })
	fmt.Printf("listed %d, with %s: %t\n", len(items), instrument.ID, isListed)

	got, stale, err := client.Get(ctx, instrument)
	if err != nil {
		return err
	}
	fmt.Printf("got %s at version %d, stale: %t\n", got.Data["ticker"], got.Version, stale)
	return nil
}

func showSecrets(ctx context.Context, client *favorites.Client) error {
	uri := "otpauth://totp/Example:me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	if _, err := client.Put(ctx, favorites.Item{Kind: otp.Kind, ID: otp.ID, Data: map[string]any{"uri": uri}}); err != nil {
		return err
	}
	code, err := client.OTPCode(ctx, otp.ID)
	if err != nil {
		return err
	}
	fmt.Printf("a code of %d digits\n", len(code))

	list := map[string]any{"codes": []string{"4417-2093", "8605-3316"}}
	if _, err = client.Put(ctx, favorites.Item{Kind: codes.Kind, ID: codes.ID, Data: list}); err != nil {
		return err
	}
	code, remaining, err := client.TakeCode(ctx, codes.ID)
	if err != nil {
		return err
	}
	fmt.Printf("took %s, %d left\n", code, remaining)
	return nil
}

// showChanges follows the changes until the last write, from where an earlier run stopped if its copy was stored.
func showChanges(ctx context.Context, client *favorites.Client) error {
	var kept favorites.Copy
	path := os.Getenv("EXAMPLE_COPY")
	if stored, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(stored, &kept); err != nil {
			return err
		}
	}
	continues := kept.Since > 0

	isLast := func(item favorites.Item) bool { return item.Key() == codes }
	for changed, err := range client.Follow(ctx, &kept) {
		if err != nil {
			return err
		}
		for _, item := range changed {
			if continues && item.Deleted {
				fmt.Printf("deleted since then: %s\n", item.Key())
			}
		}
		if slices.ContainsFunc(changed, isLast) {
			break
		}
	}
	fmt.Printf("followed the changes, and hold %d items\n", len(kept.Items))
	if path == "" {
		return nil
	}
	stored, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(path, stored, 0o600)
}

func remove(ctx context.Context, client *favorites.Client) error {
	for _, key := range []favorites.Key{instrument, otp, codes} {
		_, err := client.Delete(ctx, key)
		var refused *favorites.RefusedError
		if err != nil && !(errors.As(err, &refused) && refused.Code == "not_found") {
			return err
		}
	}
	return nil
}

func run() error {
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("EXAMPLE_TIMEOUT_S"), "30"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()

	conn, err := connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	client := favorites.New(conn, os.Getenv("GOFAVORITES_TOKEN"))

	// The first step removes what an earlier run may have left.
	for _, step := range []func(context.Context, *favorites.Client) error{
		remove, showFavorites, showSecrets, showChanges, remove,
	} {
		if err := step(ctx, client); err != nil {
			return err
		}
	}
	fmt.Println("deleted all three")
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

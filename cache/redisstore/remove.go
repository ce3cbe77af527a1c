package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanStep is about how many keys are looked at in one step of RemoveAll.
const scanStep = 500

// RemoveAll implements cache.Shared. It goes through all keys of the database in
// steps, each of which takes no longer than any other call; together they take
// the longer, the more keys there are.
func (s *Store) RemoveAll(ctx context.Context) (int, error) {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, node := range nodes {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			var n int
			err := s.call(ctx, opRemove, func(ctx context.Context, db redis.UniversalClient) (err error) {
				n, cursor, err = s.removeSome(ctx, node, db, cursor)
				return err
			})
			total += n
			if err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// nodes returns the servers that together hold all keys.
func (s *Store) nodes(ctx context.Context) ([]*redis.Client, error) {
	var mu sync.Mutex
	var all []*redis.Client
	err := s.call(ctx, opRemove, func(ctx context.Context, db redis.UniversalClient) error {
		return eachNode(ctx, db, func(_ context.Context, node *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, node)
			return nil
		})
	})
	return all, err
}

// eachNode calls f for every server that holds keys, side by side.
func eachNode(ctx context.Context, db redis.UniversalClient, f func(context.Context, *redis.Client) error) error {
	switch db := db.(type) {
	case *redis.ClusterClient:
		return db.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return safely(func() error { return f(ctx, node) })
		})
	case *redis.Client:
		return f(ctx, db)
	}
	return nil
}

// removeSome takes one step through the keys of node, and removes what it
// finds: a key for each command, as a cluster wants it.
func (s *Store) removeSome(ctx context.Context, node *redis.Client, db redis.UniversalClient, cursor uint64) (int, uint64, error) {
	keys, next, err := node.Scan(ctx, cursor, s.keys()+"*", scanStep).Result()
	if err != nil || len(keys) == 0 {
		return 0, next, err
	}
	removed, err := db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Unlink(ctx, key)
		}
		return nil
	})
	n := 0
	for _, cmd := range removed {
		if c, ok := cmd.(*redis.IntCmd); ok {
			n += int(c.Val())
		}
	}
	return n, next, err
}

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"tlspolicyd/socketmap/netstring"
)

// The orders in which keys are asked for.
const (
	// orderUniform: each as often as every other one, at random.
	orderUniform = "uniform"
	// orderZipf: at random, the first ones far more often, as domains are in
	// mail.
	orderZipf = "zipf"
	// orderOnce: one after the other, each once.
	orderOnce = "once"
)

// zipfExponent is how much more often the first keys are asked for: the tenth
// a tenth as often as the first, or a little less.
const zipfExponent = 1.1

// keySet is the questions that may be asked.
type keySet struct {
	mapName, pattern string
	first, n         int
	order            string
	seed             uint64

	frames []string // as they are sent; not for orderOnce
	next   atomic.Int64
}

func (k *keySet) check() error {
	switch {
	case k.n < 1:
		return errors.New("no keys")
	case strings.Contains(k.mapName, " "):
		return fmt.Errorf("the map %q has a blank", k.mapName)
	case k.order != orderUniform && k.order != orderZipf && k.order != orderOnce:
		return fmt.Errorf("unknown order %q", k.order)
	case !strings.Contains(k.pattern, "%") && k.n > 1:
		return fmt.Errorf("the key %q has no place for a number", k.pattern)
	}
	return nil
}

// key returns the key with a number.
func (k *keySet) key(i int) string {
	if !strings.Contains(k.pattern, "%") {
		return k.pattern
	}
	return fmt.Sprintf(k.pattern, k.first+i)
}

func (k *keySet) frame(i int) string {
	return string(netstring.Append(nil, k.mapName, " ", k.key(i)))
}

// prepare makes the questions, so that none is made while it is measured. What
// is asked once is made when it is asked.
func (k *keySet) prepare() {
	if k.order == orderOnce || k.frames != nil {
		return
	}
	k.frames = make([]string, k.n)
	for i := range k.frames {
		k.frames[i] = k.frame(i)
	}
}

// picker returns the next question; false when there is none left. It is for
// one goroutine.
type picker func() (frame string, ok bool)

// picker returns the picker of one connection.
func (k *keySet) picker(conn int) picker {
	random := rand.New(rand.NewPCG(k.seed, uint64(conn)))
	switch k.order {
	case orderOnce:
		return func() (string, bool) {
			i := int(k.next.Add(1)) - 1
			if i >= k.n {
				return "", false
			}
			return k.frame(i), true
		}
	case orderZipf:
		zipf := rand.NewZipf(random, zipfExponent, 1, uint64(k.n-1))
		return func() (string, bool) { return k.frames[zipf.Uint64()], true }
	default:
		return func() (string, bool) { return k.frames[random.IntN(k.n)], true }
	}
}

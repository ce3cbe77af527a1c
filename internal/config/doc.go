// Package config reads the configuration file of the daemon and says what is
// wrong with it.
//
// The file is YAML. Every key is optional, and so is the file: what is not
// written has the value of [Default]. [Parse] reports everything that is wrong
// at once, each with line, column, the text in question and the reason: unknown
// and repeated keys, wrong types, values that cannot be meant. There is one
// table of the keys; reading, [Config.Show] and the suggestions for misspelt
// keys are made from it.
//
// Of YAML, what a configuration needs is understood: mappings, lists, plain and
// quoted scalars, comments. Anchors, aliases, merge keys, tags, directives,
// block scalars, complex keys and several documents are refused.
//
// Passwords have no place in the file. A URL that carries one is refused, and
// what an error quotes never shows it.
//
// The package opens no file that the configuration names, looks up no name and
// starts no goroutine. Whether an address can be listened on, or a certificate
// read, turns out where it is used.
//
// Limits: a file of 1 MiB (2^20 bytes), 20,000 YAML tokens without comments,
// nesting 16 deep; 100 errors reported. Durations have a unit (ms, s, m, h, d; a
// day is 24 hours) and are 100ms at least; sizes have a unit too (B, kB, MB, GB, TB in powers of 1000; KiB, MiB,
// GiB, TiB in powers of 1024).
//
// Specification: YAML 1.2.2, the parts named above.
package config

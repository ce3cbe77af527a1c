package config

// Differ returns the keys of which a and b have different values, in the order
// in which they are shown.
func Differ(a, b *Config) []string {
	var names []string
	for _, k := range keys {
		if k.value.show(a) != k.value.show(b) {
			names = append(names, k.name)
		}
	}
	return names
}

package configs

import _ "embed"

//go:embed fairlead.toml
var reference []byte

// Reference is the commented reference file: every key with its meaning, unit,
// limits and default. It loads as it is and yields the defaults.
func Reference() []byte { return append([]byte(nil), reference...) }

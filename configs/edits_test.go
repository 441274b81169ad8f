package configs

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRandomEdits changes right configurations a little at a time: lines left
// out, doubled and moved, values exchanged for those of other keys. Much of
// that is still TOML and some of it still right, which bytes changed at random
// seldom are.
func TestRandomEdits(t *testing.T) {
	var values []string
	sources := []string{base, everyValue, string(uncomment(Reference()))}
	for _, src := range sources {
		for line := range strings.SplitSeq(src, "\n") {
			if _, value, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
				values = append(values, value)
			}
		}
	}
	values = append(values, "0", "-1", "9223372036854775807", `""`, `"\u0000"`, `"ü"`, "[]", "{}", "[[]]", "nan", "1979-05-27", "true", "\"\"\"\n\"\"\"")
	rng := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 800 {
		lines := strings.Split(sources[rng.IntN(len(sources))], "\n")
		for range 1 + rng.IntN(3) {
			i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
			switch rng.IntN(4) {
			case 0:
				lines[i] = ""
			case 1:
				lines[i] += "\n" + lines[j]
			case 2:
				lines[i], lines[j] = lines[j], lines[i]
			case 3:
				if key, _, ok := strings.Cut(lines[i], " = "); ok {
					lines[i] = key + " = " + values[rng.IntN(len(values))]
				}
			}
		}
		text := strings.Join(lines, "\n")
		checkPositions(t, text)
		checkParse(t, []byte(text))
		if _, err := Parse("f", []byte(text)); err == nil {
			accepted++
		}
	}
	if accepted < 100 {
		t.Errorf("only %d of 800 were accepted; the test has lost its point", accepted)
	}
	t.Logf("%d of 800 accepted", accepted)
}

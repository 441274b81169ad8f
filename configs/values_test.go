package configs

import "testing"

func TestHashSeed(t *testing.T) {
	for _, c := range []struct {
		text string
		want [2]uint64
	}{
		// The first half of the SHA-256 sum, as sha256sum prints it.
		{"", [2]uint64{0xe3b0c44298fc1c14, 0x9afbf4c8996fb924}},
		{"abc", [2]uint64{0xba7816bf8f01cfea, 0x414140de5dae2223}},
		{"FFFFFFFFFFFFFFFFfffffffffffffffe", [2]uint64{^uint64(0), ^uint64(1)}},
		{"FFFFFFFFFFFFFFFFfffffffffffffffe00", parseSeed("FFFFFFFFFFFFFFFFfffffffffffffffe00")},
	} {
		if got := parseSeed(c.text); got != c.want {
			t.Errorf("%q is %#x, want %#x", c.text, got, c.want)
		}
	}
	if parseSeed("a") == parseSeed("b") {
		t.Error("two texts make one seed")
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"method", "mehtod", 1}, {"method", "methd", 1}, {"method", "methoood", 2},
		{"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abcdef", "uvwxyz", 6},
	} {
		if got := editDistance(c.a, c.b, 100); got != c.want {
			t.Errorf("%q to %q is %d, want %d", c.a, c.b, got, c.want)
		}
		for limit := 1; limit <= 8; limit++ {
			if got := editDistance(c.a, c.b, limit); got != min(c.want, limit) {
				t.Errorf("%q to %q with limit %d is %d, want %d", c.a, c.b, limit, got, min(c.want, limit))
			}
		}
	}
}

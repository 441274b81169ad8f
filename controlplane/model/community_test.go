package model

import "testing"

func TestCommunities(t *testing.T) {
	for text, want := range map[string]string{
		"65000:100": "65000:100", "0:0": "0:0", "65535:0": "graceful-shutdown", "65535:65281": "no-export", "no-export": "no-export",
		"4294967295:0:4294967295": "4294967295:0:4294967295", "65535:1234": "65535:1234",
	} {
		c, err := ParseCommunity(text)
		if err != nil || c.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, c, err, want)
		}
	}
	for _, name := range WellKnownCommunities() {
		if c, err := ParseCommunity(name); err != nil || c.String() != name || c.Large || c.A != 65535 {
			t.Errorf("%s is %+v, %v", name, c, err)
		}
	}
	const names = "graceful-shutdown, accept-own, llgr-stale, no-llgr, blackhole, no-export, no-advertise, no-export-subconfed, no-peer"
	for text, want := range map[string]string{
		"":                `"" is no community: write "65000:100", "65000:1:2", or one of the names ` + names,
		"no_export":       `"no_export" is no community: write "65000:100", "65000:1:2", or one of the names ` + names,
		"1:2:3:4":         `"1:2:3:4" is no community: write "65000:100", "65000:1:2", or one of the names ` + names,
		"65536:1":         `"65536:1" is no community: "65536" is not a number from 0 to 65535`,
		"1:-1":            `"1:-1" is no community: "-1" is not a number from 0 to 65535`,
		"1::2":            `"1::2" is no community: "" is not a number from 0 to 4294967295`,
		"1:2:4294967296":  `"1:2:4294967296" is no community: "4294967296" is not a number from 0 to 4294967295`,
		"99999999999999:": `"99999999999999:" is no community: "99999999999999" is not a number from 0 to 65535`,
	} {
		if c, err := ParseCommunity(text); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
}

func TestCommunitySets(t *testing.T) {
	parse := func(texts ...string) Communities {
		var all []Community
		for _, text := range texts {
			c, err := ParseCommunity(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return NewCommunities(all...)
	}
	a, b := parse("1:2:3", "no-export", "1:2"), parse("65535:65281", "1:2", "1:2", "1:2:3")
	if a != b || a != "1:2 no-export 1:2:3" {
		t.Errorf("%q and %q are of the same members", a, b)
	}
	if u := parse("9:9").With(a); u != "1:2 9:9 no-export 1:2:3" {
		t.Errorf("the union is %q", u)
	}
	if u := Communities("").With(""); u != "" || u.List() != nil {
		t.Errorf("nothing and nothing are %q", u)
	}
	if n := len(a.List()); n != 3 {
		t.Errorf("%d members", n)
	}
}

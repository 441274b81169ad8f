package flows

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func end(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var someFlows = []Flow{
	{Kind: Established, Proto: 6, Client: end("192.0.2.1:40000"), VIP: end("203.0.113.1:443"), Backend: end("198.18.0.1:8443"), Life: 2 * time.Hour, Slack: time.Minute},
	{Kind: Established, Proto: 17, Client: end("[2001:db8::1]:53"), VIP: end("[2001:db8:1::1]:53"), Backend: end("198.18.0.2:0"), Life: 30 * time.Second},
	{Kind: Affinity, Proto: 6, Client: end("192.0.2.1:0"), VIP: end("203.0.113.1:443"), Backend: end("198.18.0.2:8443"), Life: time.Second},
	{Kind: Ended, Proto: 132, Client: end("192.0.2.9:1"), VIP: end("203.0.113.1:443")},
	{Kind: Established, Proto: 99, Client: end("192.0.2.9:1"), VIP: end("203.0.113.1:443"), Backend: end("198.18.0.1:8443")},
}

func encode(flows []Flow) []byte {
	var b batch
	for i := range flows {
		b.add(&flows[i])
	}
	return b.message()
}

func TestBatchComesBack(t *testing.T) {
	m, err := parse(encode(someFlows))
	if err != nil {
		t.Fatal(err)
	}
	if m.what != msgBatch || m.unknown != 0 || !slices.Equal(m.flows, someFlows) {
		t.Fatalf("what came back:\n%+v", m)
	}
	for _, what := range []byte{msgFence, msgFenced} {
		if m, err := parse(fenceMessage(what, 1<<40)); err != nil || m.what != what || m.number != 1<<40 {
			t.Fatalf("fence %+v, %v", m, err)
		}
	}
	if m, err := parse(againMessage()); err != nil || m.what != msgAgain {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestBatchIsWhatItWas has the bytes of a batch in the format's first version:
// whatever becomes of the code, it reads and writes them.
func TestBatchIsWhatItWas(t *testing.T) {
	const want = "0101" +
		"05" + "04cb00710101bb" + "04c612000120fb" + "0620010db80001000000000000000000010035" + "04c61200020000" + "04c612000220fb" +
		"05" +
		"11c00002019c400001a0383c" +
		"2920010db80000000000000000000000010035" + "02031e00" +
		"13c0000201000000040100" +
		"32c0000209000100" +
		"0163c0000209000100010000"
	if got := hex.EncodeToString(encode(someFlows)); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestBatchOfANewerVersion(t *testing.T) {
	raw := encode(someFlows[:1])
	if m, err := parse(append(slices.Clone(raw), 1, 2, 3)); err != nil || len(m.flows) != 1 {
		t.Fatalf("more after the flows: %+v, %v", m, err)
	}
	unknown := slices.Clone(raw)
	unknown[bytes.IndexByte(unknown, 0x11)] = 0x17
	if m, err := parse(unknown); err != nil || len(m.flows) != 0 || m.unknown != 1 {
		t.Fatalf("a flow of an unknown kind: %+v, %v", m, err)
	}
}

func TestBadMessages(t *testing.T) {
	batch := func(rest string) string { return "0101" + rest }
	for raw, want := range map[string]string{
		"":                               "a message about flows of 0 bytes: it ends too early",
		"0102":                           "a message about flows of version 2: it has a newer version",
		"0901":                           "a message about flows of an unknown kind, 9: it has a newer version",
		"020100":                         "a fence: it ends too early",
		batch(""):                        "a batch of flows with 0 ends: it ends too early",
		batch("ff"):                      "a batch of flows with 0 ends: it ends too early",
		batch("02" + "04cb71000101bb"):   "a batch of flows with 2 ends: it ends too early",
		batch("01" + "05cb71000101bb"):   "end 0 of a batch of flows: address family 5",
		batch("00" + "ffffffffffffff7f"): "a batch of 72057594037927935 flows: it ends too early",
		batch("00" + "01" + "11c00002019c4000000000"):                      "flow 0 of a batch: no such end",
		batch("01" + "04cb71000101bb" + "01" + "11c00002019c400001a0383c"): "flow 0 of a batch: no such end",
		batch("01" + "04cb71000101bb" + "01" + "19c00002019c400001a038"):   "flow 0 of a batch: it ends too early",
	} {
		b, err := hex.DecodeString(raw)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := parse(b); err == nil || err.Error() != want || m.flows != nil {
			t.Errorf("%s: %v\nwant %s", raw, err, want)
		}
	}
	if _, err := parse(append([]byte{msgBatch, wireVersion}, make([]byte, batchBytes+1)...)); err == nil || err.Error() != "a batch of flows of 1048577 bytes: want at most 1048576" {
		t.Errorf("a batch too long: %v", err)
	}
	if _, err := parse([]byte{msgBatch, 9}); !errors.Is(err, errNewer) {
		t.Errorf("a newer version: %v", err)
	}
}

// FuzzParse has whatever a peer may send read: what is read comes back the same
// when it is written and read again.
func FuzzParse(f *testing.F) {
	f.Add(encode(someFlows))
	f.Add(fenceMessage(msgFence, 3))
	f.Add(againMessage())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parse(raw)
		if err != nil || m.what != msgBatch {
			return
		}
		again, err := parse(encode(m.flows))
		if err != nil || !slices.Equal(again.flows, m.flows) {
			t.Fatalf("%+v came back as %+v, %v", m.flows, again.flows, err)
		}
	})
}

func TestBase(t *testing.T) {
	shares := []Share{{end("198.18.0.1:80"), 1, 0}, {end("198.18.0.2:0"), 65535, 1000}, {end("[2001:db8::1]:80"), 0, 7}}
	for _, b := range []Base{{Steady, shares, nil}, {Steady, nil, nil}, {Prepare, shares, shares[:1]}, {Settle, shares[:2], shares[1:]}} {
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBase(raw)
		if err != nil || got.Phase != b.Phase || !slices.Equal(got.Shares, b.Shares) || !slices.Equal(got.Also, b.Also) {
			t.Errorf("%s came back as %+v, %v", raw, got, err)
		}
	}
	const stands = `{"version":1,"phase":"steady","base":[["198.18.0.2:80",1,0,"later"],["198.18.0.1:80",2,3]],"else":{"a":1}}`
	got, err := DecodeBase([]byte(stands))
	if want := []Share{{end("198.18.0.1:80"), 2, 3}, {end("198.18.0.2:80"), 1, 0}}; err != nil || !slices.Equal(got.Shares, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for raw, want := range map[string]string{
		`{`:                               "the base of a pool: unexpected end of JSON input",
		`{"version":2}`:                   "the base of a pool, version 2: written by newer software",
		`{"version":1,"phase":"x"}`:       `the base of a pool: unknown phase "x"`,
		`{"version":1,"phase":"prepare"}`: `the base of a pool: phase "prepare" with 0 other shares`,
		`{"version":1,"phase":"steady","also":[["198.18.0.1:80",1,0]]}`:                       `the base of a pool: phase "steady" with 1 other shares`,
		`{"version":1,"phase":"steady","base":[["198.18.0.1:80",1]]}`:                         "a share of 2 values: want 3",
		`{"version":1,"phase":"steady","base":[["",1,0]]}`:                                    "the base of a pool: a share without an endpoint",
		`{"version":1,"phase":"steady","base":[["198.18.0.1:80",-1,0]]}`:                      "the base of a pool: 198.18.0.1:80 has weight -1: want 0 to 65535",
		`{"version":1,"phase":"steady","base":[["198.18.0.1:80",1,1001]]}`:                    "the base of a pool: 198.18.0.1:80 withholds 1001 per mille: want 0 to 1000",
		`{"version":1,"phase":"steady","base":[["198.18.0.1:80",1,0],["198.18.0.1:80",1,0]]}`: "the base of a pool: 198.18.0.1:80 is there twice",
	} {
		if _, err := DecodeBase([]byte(raw)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", raw, err, want)
		}
	}
	if _, err := DecodeBase([]byte(`{"version":2}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer version: %v", err)
	}
}

// FuzzDecodeBase has whatever may stand in an entry read: what is read comes back
// the same.
func FuzzDecodeBase(f *testing.F) {
	f.Add([]byte(`{"version":1,"phase":"prepare","base":[["198.18.0.1:80",1,0]],"also":[["[2001:db8::1]:80",2,500]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBase(raw)
		if err != nil {
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := DecodeBase(again); err != nil || c.Phase != b.Phase || !slices.Equal(c.Shares, b.Shares) || !slices.Equal(c.Also, b.Also) {
			t.Fatalf("%+v came back as %+v, %v", b, c, err)
		}
	})
}

package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fairlead/controlplane/model"
)

// judged is what a file that is the only source gets: read, checked, and what
// was found given its place.
func judged(name string, data []byte) (*Document, error) {
	d, err := Read(name, data)
	if err != nil {
		return nil, err
	}
	findings, other := errorsOf(model.Validate(&d.Config.State))
	if len(other) > 0 {
		return nil, errors.Join(other...)
	}
	if err := d.Locate(findings); err != nil {
		return nil, err
	}
	return d, nil
}

// TestDocumentsAreJudgedAsFiles: what is wrong with a file is told in the same
// words and places when it is read as one source of several.
func TestDocumentsAreJudgedAsFiles(t *testing.T) {
	before, _, _ := strings.Cut(base, "[[service]]\n")
	same := func(name, toml string) {
		t.Helper()
		_, whole := Parse("f", []byte(toml))
		_, parts := judged("f", []byte(toml))
		if whole == nil || parts == nil {
			t.Errorf("%s: as a file %v, as a source %v", name, whole, parts)
			return
		}
		// With mistakes in values, too, nothing is said of pools: others may have them.
		var want []string
		several := strings.Contains(whole.Error(), "\n")
		for line := range strings.SplitSeq(whole.Error(), "\n") {
			if !several || !strings.Contains(line, ": no [[pool]] has the name") {
				want = append(want, line)
			}
		}
		for line := range strings.SplitSeq(parts.Error(), "\n") {
			if several && strings.Contains(line, ": no [[pool]] has the name") {
				continue
			}
			if len(want) == 0 || want[0] != line {
				t.Errorf("%s: as a source\n%v\nas a file\n%v", name, parts, whole)
				return
			}
			want = want[1:]
		}
	}
	for _, c := range errorCases {
		same(c.name, c.toml)
	}
	for _, c := range serviceCases {
		same(c.name, before+"[[service]]\n"+c.lines)
	}
}

func TestDocumentIsTheFile(t *testing.T) {
	text := uncomment(Reference())
	whole, err := Parse("f", text)
	if err != nil {
		t.Fatal(err)
	}
	d, err := judged("f", text)
	if err != nil {
		t.Fatal(err)
	}
	if d.Config.Node.Name == "" || !reflect.DeepEqual(d.Config, whole) || string(d.Text) != string(text) {
		t.Errorf("read as\n%+v\nwant\n%+v", d.Config, whole)
	}
}

// TestDocumentUsesForeignPools: a service may use a pool that its own file does
// not have, and only the whole shows that nobody has it.
func TestDocumentUsesForeignPools(t *testing.T) {
	const text = "[[service]]\nname = \"dns\"\nvip = \"198.18.0.53\"\nprotocol = \"udp\"\nport = 53\npool = \"wbe\"\nmethod = \"l2\"\n[[pool]]\nname = \"web\"\n"
	d, err := ReadObjects("sent", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Config.State.Services); n != 1 || d.Config.State.Limits != (model.Limits{}) || d.Config.State.HashSeed != [2]uint64{} || d.Config.State.Tunnel != (model.Tunnel{}) {
		t.Errorf("read %+v", d.Config.State)
	}
	findings, _ := errorsOf(model.Validate(&d.Config.State))
	err = d.Locate(findings)
	if want := `sent:6:8: pool: no [[pool]] has the name "wbe" (did you mean "web"?)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := d.Locate(nil); err != nil {
		t.Errorf("nothing was found: %v", err)
	}
}

func TestOnlyObjectsAreSent(t *testing.T) {
	for _, c := range []struct{ name, toml, want string }{
		{"tables of the node", "[node]\nname = \"x\"\n\n[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n[tunnel]\nttl = 3\nxdp = {}\n[[pool]]\nname = \"p\"\nweight = 1\n", `sent:1:2: "node" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent
sent:4:3: "interface" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent
sent:8:2: "tunnel" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent
sent:13:1: unknown key "weight" in [[pool]]`},
		{"of state and limits", "state.directory = \"/x\"\n[limits]\n", `sent:1:1: "state" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent
sent:2:2: "limits" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent`},
		{"unknown tables", "[servces]\n", `sent:1:2: unknown table "servces" (did you mean "service"?)`},
		{"no TOML", "[[service]\n", `sent:1:10: expected end of table array name delimiter ']', but got '\n' instead`},
		{"values", "[[pool]]\nname = \"p\"\n[[pool.backend]]\naddress = \"198.18.0.300\"\n", `sent:4:11: address: "198.18.0.300" is not an IP address with or without a port; write it as "192.0.2.1:80", "[2001:db8::1]:80" or "192.0.2.1"`},
	} {
		_, err := ReadObjects("sent", []byte(c.toml))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
	d, err := ReadObjects("sent", []byte("[timeouts]\nudp = \"9s\"\n[[service]]\nname = \"a\"\nvip = \"198.18.0.1\"\nprotocol = \"udp\"\nport = 1\npool = \"p\"\n"))
	if err != nil || d.Config.State.Services[0].Timeouts.UDP.String() != "9s" {
		t.Errorf("timeouts: %+v, %v", d, err)
	}
}

// TestFileTables: whatever the node's file may have, other documents may not,
// but for objects.
func TestFileTables(t *testing.T) {
	var tables []string
	sections, err := parseReference(Reference())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sections {
		name, _, _ := strings.Cut(strings.Trim(s.title, "[]"), ".")
		tables = append(tables, name)
	}
	known := strings.Join(fileTables(), " ")
	for _, name := range tables {
		if !strings.Contains(known, name) {
			t.Errorf("[%s] is not known as a table of the file: %s", name, known)
		}
	}
}

func TestStateDirectory(t *testing.T) {
	for _, c := range []struct {
		toml, want string
		ok         bool
	}{
		{"", DefaultStateDirectory, true},
		{"[state]\ndirectory = \"/srv/x\"\n[node]\nnmae = 1\n", "/srv/x", true},
		{"[state]\ndirectory = \"\"\n", "", true},
		{"[state]\ndirectory = \"x\"\n", "", false},
		{"[state]\ndirectory = 7\n", "", false},
		{"[[state]]\n", "", false},
		{"[state\n", "", false},
	} {
		if got, ok := StateDirectory([]byte(c.toml)); got != c.want || ok != c.ok {
			t.Errorf("%q: %q, %v; want %q, %v", c.toml, got, ok, c.want, c.ok)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.toml")
	if _, err := ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := ReadFile(path)
	if err != nil || d.Text == nil {
		t.Errorf("an empty file: %+v, %v", d, err)
	}
}

package migrate

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file anew")

// TestPlan compares what becomes of everything that MetalLB can be told with what is
// to become of it.
func TestPlan(t *testing.T) {
	file, err := os.Open("testdata/metallb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var in Input
	if err := in.Read(file.Name(), file); err != nil {
		t.Fatal(err)
	}
	if read, ignored := in.Found(); read != 17 || ignored != 1 {
		t.Errorf("%d objects read, %d left out", read, ignored)
	}
	var out bytes.Buffer
	if err := in.Plan().Write(&out); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/plan.txt"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	var again bytes.Buffer
	if err := in.Plan().Write(&again); err != nil || again.String() != out.String() {
		t.Errorf("another time it is another plan: %v", err)
	}
}

// TestSimple is what most have: one pool on the segment.
func TestSimple(t *testing.T) {
	var in Input
	const text = `{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"p"},"spec":{"addresses":["192.0.2.0/24"]}}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2}
`
	if err := in.Read("f", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	p := in.Plan()
	pools, err := p.PoolsYAML()
	if want := "---\napiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata:\n  name: p\nspec:\n  addresses:\n  - 192.0.2.0/24\n"; err != nil || pools != want {
		t.Errorf("%v\n%s", err, pools)
	}
	if p.Config != "[kubernetes]\ndefault_class = true\n" || len(p.Services) != 0 || len(p.Notes) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestNothing(t *testing.T) {
	var in Input
	if err := in.Read("f", strings.NewReader("# nothing\n---\n")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := in.Plan().Write(&out); err != nil || strings.Count(out.String(), "# nothing\n") != 2 || !strings.Contains(out.String(), "# there are none") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: [": "f: document 1: yaml: line 1: did not find expected node content",
		"a: 1": "f: document 1: is no object of Kubernetes: it has no kind",
		"[1]":  "f: document 1: is no object of Kubernetes: json: cannot unmarshal array into Go value of type struct { v1.TypeMeta \"json:\\\",inline\\\"\"; Metadata struct { Name string \"json:\\\"name\\\"\" } \"json:\\\"metadata\\\"\"; Items []json.RawMessage \"json:\\\"items\\\"\" }",
		"kind: Service\napiVersion: v1\n---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\nspec: {addresses: 1}": "f: document 2: IPAddressPool p: json: cannot unmarshal number into Go struct field poolSpec.spec.addresses of type []string",
		"kind: List\napiVersion: v1\nitems: [{kind: Service, apiVersion: v1}, {}]":                                                           "f: document 1: item 2: is no object of Kubernetes: it has no kind",
	} {
		var in Input
		if err := in.Read("f", strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestShell(t *testing.T) {
	for word, want := range map[string]string{"": "''", "a-b_c.d,e:f/g": "a-b_c.d,e:f/g", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := shell(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

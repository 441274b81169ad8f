package migrate

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Plan is what Fairlead is to be configured with.
type Plan struct {
	// Pools are AddressPool objects, by name.
	Pools []Pool `json:"pools"`
	// Config is TOML for the nodes' configuration.
	Config string `json:"config"`
	// Services are changes of annotations, by namespace and name.
	Services []Change `json:"services"`
	// Notes say what differs, or has no counterpart.
	Notes []Note `json:"notes"`
}

// Note is something that whoever migrates should know.
type Note struct {
	Object string `json:"object"` // "BGPPeer tor1"; empty: all
	Field  string `json:"field"`  // of its spec; empty: the object as a whole
	Text   string `json:"text"`
}

// Plan works out what Fairlead is to be configured with.
func (in *Input) Plan() *Plan {
	p := &Plan{Pools: []Pool{}, Services: []Change{}, Notes: []Note{}}
	for _, o := range in.old {
		p.note(o, "", "is of a kind that MetalLB has given up; have it converted to IPAddressPool first")
	}
	in.planPools(p)
	var config strings.Builder
	in.planKubernetes(p, &config)
	in.planLayer2(p)
	in.planBGP(p, &config)
	p.Config = config.String()
	return p
}

func (p *Plan) note(object, field, format string, args ...any) {
	p.Notes = append(p.Notes, Note{Object: object, Field: field, Text: fmt.Sprintf(format, args...)})
}

// PoolsYAML are the pools as kubectl applies them.
func (p *Plan) PoolsYAML() (string, error) {
	var b strings.Builder
	for i := range p.Pools {
		text, err := yaml.Marshal(&p.Pools[i])
		if err != nil {
			return "", fmt.Errorf("pool %s: %w", p.Pools[i].Metadata.Name, err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.String(), nil
}

// Commands are the changes of Services as commands of a shell.
func (p *Plan) Commands() string {
	var b strings.Builder
	for _, c := range p.Services {
		fmt.Fprintln(&b, c.Command())
	}
	return b.String()
}

// NotesText are the notes, one a line.
func (p *Plan) NotesText() string {
	var b strings.Builder
	for _, n := range p.Notes {
		subject := n.Object
		if n.Field != "" {
			subject += " " + n.Field
		}
		if subject = strings.TrimSpace(subject); subject != "" {
			subject += ": "
		}
		fmt.Fprintf(&b, "%s%s\n", subject, n.Text)
	}
	return b.String()
}

// Write writes all of the plan, for people.
func (p *Plan) Write(out io.Writer) error {
	pools, err := p.PoolsYAML()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for _, part := range []struct{ title, text, none string }{
		{"Pools: kubectl apply -f -", pools, "there are none"},
		{"Configuration of each node, beside what it has", p.Config, "nothing"},
		{"Services, when MetalLB does not run any more", p.Commands(), "none is to be changed"},
		{"What differs, or has no counterpart", p.NotesText(), "nothing"},
	} {
		if part.text == "" {
			part.text = "# " + part.none + "\n"
		}
		fmt.Fprintf(w, "## %s\n\n%s\n", part.title, part.text)
	}
	return w.Flush()
}

func newReader(from io.Reader) *bufio.Reader {
	return bufio.NewReader(io.LimitReader(from, maxDocument))
}

// cut splits an apiVersion into group and version; core objects have no group.
func cut(apiVersion string) (group, version string, core bool) {
	group, version, both := strings.Cut(apiVersion, "/")
	if !both {
		return "", group, true
	}
	return group, version, false
}

// sortedBy is a copy of a list in the order of a text.
func sortedBy[T any](list []T, text func(*T) string) []T {
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b T) int { return strings.Compare(text(&a), text(&b)) })
	return out
}

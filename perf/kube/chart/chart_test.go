package chart

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairlead/configs"

	"sigs.k8s.io/yaml"
)

func TestLint(t *testing.T) {
	for _, values := range []string{"values.yaml", "ci/manifests-values.yaml"} {
		if out, complaints, err := helm(t, "lint", "--strict", chartPath, "--values", filepath.Join(chartPath, values)); err != nil {
			t.Errorf("helm lint with %s: %v\n%s%s", values, err, out, complaints)
		}
	}
}

// TestFiles asserts that the chart has the CRDs and the policies of the manifests.
func TestFiles(t *testing.T) {
	names := regexp.MustCompile(`(?m)^metadata:\n  name: (\S+)|^  name: (\S+)$`)
	made := files(render(t, "--values", manifestValues))
	crds, err := filepath.Glob(manifests + "/crds/*.yaml")
	if err != nil || len(crds) == 0 {
		t.Fatalf("%d CRDs, %v", len(crds), err)
	}
	for _, path := range crds {
		if name := names.FindStringSubmatch(read(t, path))[1]; !strings.Contains(made["crds.yaml"], "\n  name: "+name+"\n") {
			t.Errorf("the chart lacks %s", name)
		}
	}
	if got, want := made["policy.yaml"], read(t, manifests+"/policy.yaml"); strings.Count(got, "\nkind: Validating") != strings.Count(want, "\nkind: Validating") {
		t.Error("the chart does not have the policies of the manifests")
	}
	other := files(render(t, "--values", manifestValues, "--set", "kubernetes.class=example.com/x"))["policy.yaml"]
	if strings.Contains(other, "'fairlead.io/lb'") || !strings.Contains(other, "'example.com/x'") {
		t.Error("the policies are not for another class")
	}
	if other := render(t, "--values", manifestValues, "--namespace", "elsewhere"); strings.Contains(strings.ReplaceAll(other, "fairlead-system.svc", ""), "fairlead-system") {
		t.Error("with another namespace something is in fairlead-system")
	}
}

var (
	source    = regexp.MustCompile(`(?m)^# Source: fairlead/templates/(.*)\n`)
	helmLabel = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/(instance|managed-by|version)): .*\n`)
	checksum  = regexp.MustCompile(`(?m)^ +annotations:\n +# Most of .*\n +fairlead\.io/configuration: .*\n`)
	blanks    = regexp.MustCompile(`(?m)[ \t]+$`)
	emptyRuns = regexp.MustCompile(`\n{3,}`)
)

// files are the objects of a rendering, by the template that they are from.
func files(rendered string) map[string]string {
	out := map[string]string{}
	for document := range strings.SplitSeq("\n"+rendered, "\n---\n") {
		m := source.FindStringSubmatch(document)
		if m == nil {
			continue
		}
		text := helmLabel.ReplaceAllString(checksum.ReplaceAllString(source.ReplaceAllString(document, ""), ""), "")
		text = emptyRuns.ReplaceAllString(blanks.ReplaceAllString(text, ""), "\n\n")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if out[m[1]] != "" {
			out[m[1]] += "---\n"
		}
		out[m[1]] += text + "\n"
	}
	return out
}

// TestManifests asserts that the plain manifests are the chart's.
func TestManifests(t *testing.T) {
	made := files(render(t, "--values", manifestValues))
	delete(made, "crds.yaml")
	delete(made, "policy.yaml")
	var names []string
	for name, text := range made {
		names = append(names, name)
		same(t, filepath.Join(manifests, name), "# Made from configs/helm/fairlead by `go test ./perf/kube/chart -update`.\n\n"+text)
	}
	own := []string{"namespace.yaml", "policy.yaml", "token.yaml"}
	entries, err := filepath.Glob(manifests + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		if name := filepath.Base(path); !slices.Contains(names, name) && !slices.Contains(own, name) {
			t.Errorf("%s is neither of the chart nor by itself", path)
		}
	}
	if len(names) < 8 {
		t.Errorf("the chart makes %v alone", names)
	}
}

// TestConfigurations loads the configuration of each node, as the chart writes it.
func TestConfigurations(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"manifests", []string{"--values", manifestValues}},
		{"made key", []string{"--set-string", "nodes.lb1=[tunnel]\nttl = 5"}},
		{"all else", []string{
			"--set-string", "nodes.lb1=", "--set", "kubernetes.defaultClass=true,kubernetes.class=example.com/x,kubernetes.method=nodes,kubernetes.localMethod=pods,kubernetes.nodesVia=l2,kubernetes.podWeights=true,kubernetes.gateway=false,metrics.enabled=true,metrics.port=1234",
			"--set", "kubernetes.annotations={metallb,cilium},cluster.gossipPort=1,cluster.streamPort=2",
			"--set-json", `pools=[{"name":"p","addresses":["192.0.2.0/24","2001:db8::/64"],"auto_assign":false,"priority":7,"namespaces":["a"]}]`,
		}},
		{"no cluster", []string{"--set-string", "nodes.lb1=", "--set", "cluster.enabled=false,hashSeed=a \"quoted\" seed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var object struct {
				Data map[string]string `json:"data"`
			}
			if err := yaml.Unmarshal([]byte(render(t, append(c.args, "--show-only", "templates/config.yaml")...)), &object); err != nil {
				t.Fatal(err)
			}
			if len(object.Data) == 0 {
				t.Fatal("there is no configuration")
			}
			for name, text := range object.Data {
				cfg, err := configs.Parse(name, []byte(text))
				if err != nil {
					t.Errorf("%v\n%s", err, text)
					continue
				}
				if k := cfg.Kubernetes; c.name == "all else" && (k.Class != "example.com/x" || !k.DefaultClass || k.Method != "nodes" || k.LocalMethod != "pods" || k.NodesVia != "l2" || !k.PodWeights || k.Gateway ||
					len(k.Annotations) != 2 || len(k.Pools) != 1 || len(k.Pools[0].Ranges) != 2 || k.Pools[0].Priority != 7 || cfg.Metrics.Listen != "[::]:1234" || cfg.Cluster.GossipPort != 1 || cfg.Cluster.StreamPort != 2) {
					t.Errorf("the values did not arrive:\n%s", text)
				}
			}
		})
	}
}

// TestSchema asserts that wrong values are refused, with their place.
func TestSchema(t *testing.T) {
	for set, want := range map[string]string{
		"kubernetes.method=pod":      "/kubernetes/method",
		"kubernets.method=pods":      "kubernets",
		"cluster.streamPort=0":       "/cluster/streamPort",
		"cluster.key=abc":            "/cluster/key",
		"backend.from={x}":           "/backend/from/0",
		"nodes.Lb1=x":                "invalid propertyName /Lb1/",
		"image.digest=md5:0":         "/image/digest",
		"maxUnavailable=0":           "/maxUnavailable",
		"kubernetes.annotations={a}": "/kubernetes/annotations/0",
	} {
		out, complaints, err := helm(t, "template", "fairlead", chartPath, "--set", set)
		if err == nil || !strings.Contains(strings.ReplaceAll(complaints, "'", "/"), want) && !strings.Contains(complaints, want) {
			t.Errorf("--set %s: %v: %s%.100s", set, err, complaints, out)
		}
	}
}

// value is one value of the chart.
type value struct{ path, fallback, meaning string }

// documented reads values.yaml: each value has a comment above it.
func documented(t *testing.T) (out []value) {
	var all map[string]any
	text := read(t, chartPath+"/values.yaml")
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^( *)([A-Za-z]+):`)
	var comment []string
	parent := ""
	explained := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "#  "): // an example
		case strings.HasPrefix(trimmed, "# "):
			comment = append(comment, strings.TrimPrefix(trimmed, "# "))
		case trimmed == "":
			comment = nil
		default:
			m := key.FindStringSubmatch(line)
			if m == nil || len(m[1]) > 2 {
				continue
			}
			path := m[2]
			if m[1] == "" {
				parent = path
			} else {
				path = parent + "." + path
			}
			explained[path] = strings.Join(comment, " ")
			comment = nil
		}
	}
	for _, name := range order(text) {
		table, isTable := all[name].(map[string]any)
		if !isTable || len(table) == 0 || slices.Contains([]string{"nodeSelector", "resources", "tolerations"}, name) {
			out = append(out, value{name, literal(t, all[name]), explained[name]})
			continue
		}
		for _, sub := range order(section(text, name)) {
			meaning := explained[name+"."+sub]
			out = append(out, value{name + "." + sub, literal(t, table[sub]), meaning})
		}
	}
	return out
}

// order are the keys at the left of a YAML text, in order.
func order(text string) (keys []string) {
	for _, m := range regexp.MustCompile(`(?m)^([A-Za-z]+):`).FindAllStringSubmatch(text, -1) {
		keys = append(keys, m[1])
	}
	return keys
}

// section is what is below a key, moved to the left.
func section(text, name string) string {
	_, rest, _ := strings.Cut(text, "\n"+name+":\n")
	var b strings.Builder
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "  ") {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return b.String()
}

func literal(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestValues asserts that every value is explained, is in the schema, and is in the
// table of the chart's README.
func TestValues(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"properties"`
	}
	if err := json.Unmarshal([]byte(read(t, chartPath+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| value | default | meaning |\n|---|---|---|\n")
	values := documented(t)
	for _, v := range values {
		if v.meaning == "" {
			t.Errorf("%s is not explained in values.yaml", v.path)
		}
		name, sub, nested := strings.Cut(v.path, ".")
		of, known := schema.Properties[name]
		if nested && known {
			_, known = of.Properties[sub]
		}
		if !known {
			t.Errorf("%s is not in values.schema.json", v.path)
		}
		b.WriteString("| `" + v.path + "` | `" + strings.ReplaceAll(strings.ReplaceAll(v.fallback, `\n`, " "), "|", `\|`) + "` | " + strings.ReplaceAll(v.meaning, "|", `\|`) + " |\n")
	}
	if len(values) < 50 {
		t.Errorf("only %d values were found", len(values))
	}
	const marker = "<!-- Made from values.yaml by `go test ./perf/kube/chart -update`. -->\n"
	path := chartPath + "/README.md"
	before, _, found := strings.Cut(read(t, path), marker)
	if !found {
		t.Fatalf("%s has no line %q", path, marker)
	}
	same(t, path, before+marker+b.String())
}

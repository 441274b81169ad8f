package preflight

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fairlead/configs"
)

func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	const text = `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443"}}], users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const noSNAT = "warning [kubernetes]: method pods goes by NAT, and there is no [[snat]]: Services that use it are refused"
	const noSource = "warning [kubernetes]: local_method nodes goes by ipip, and [tunnel] has no source: Services that use it are refused"
	for _, c := range []struct {
		config string
		want   []string
	}{
		{"", nil},
		{"[kubernetes]\n", []string{"warning [kubernetes]: no kubeconfig and no server is set, and this is no pod with a service account: unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined; until that is corrected the node goes by what it had of Kubernetes", noSNAT, noSource}},
		{"[kubernetes]\nkubeconfig = \"/nowhere\"\n", []string{"warning [kubernetes]: kubeconfig: stat /nowhere: no such file or directory; until that is corrected the node goes by what it had of Kubernetes", noSNAT, noSource}},
		{"[kubernetes]\nserver = \"https://192.0.2.1\"\ntoken_file = \"/nowhere\"\nmethod = \"nodes\"\nnodes_via = \"l2\"\n", []string{"warning [kubernetes]: token of Kubernetes: open /nowhere: no such file or directory; until that is corrected the node goes by what it had of Kubernetes"}},
		{"[state]\ndirectory = \"\"\n[kubernetes]\nkubeconfig = \"KUBECONFIG\"\n[[snat]]\naddress = \"198.18.10.2\"\n[tunnel]\nsource_ipv6 = \"2001:db8::1\"\n",
			[]string{"warning [kubernetes]: without a directory in [state] a restart while the API server is away comes up with nothing of it"}},
		{"[kubernetes]\nkubeconfig = \"KUBECONFIG\"\n[[snat]]\naddress = \"198.18.10.2\"\n", []string{noSource}},
	} {
		cfg, err := configs.Parse("f", []byte(strings.ReplaceAll(c.config, "KUBECONFIG", kubeconfig)))
		if err != nil {
			t.Fatal(err)
		}
		k := &checker{cfg: cfg}
		k.kubernetes()
		var got []string
		for _, f := range k.found {
			got = append(got, f.Level.String()+" "+f.String())
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\ngot  %q\nwant %q", c.config, got, c.want)
		}
	}
}

package node

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"fairlead/configs"
	"fairlead/k8ssync/kube"
)

// TestKubernetesSettings asserts that every key reaches the rooms of Kubernetes.
func TestKubernetesSettings(t *testing.T) {
	const file = `[kubernetes]
kubeconfig = "/k"
context = "c"
class = "example.com/lb"
default_class = true
method = "nodeports"
local_method = "pods"
nodes_via = "gue"
zone = "z"
pod_weights = true
annotations = ["metallb", "loxilb"]
lease_namespace = "lb"
lease_name = "l"
resync = "1h"
[[kubernetes.pool]]
name = "p"
addresses = ["192.0.2.0/31"]
avoid_buggy_ips = true
priority = 3
namespace_selector = "a=b"
service_selector = "c"
namespaces = ["n"]
`
	t.Setenv("NODE_NAME", "worker-3")
	c, err := configs.Parse("f", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	got := KubernetesSettings(&c.Kubernetes)
	r := c.Kubernetes.Pools[0].Ranges[0]
	pool := kube.AddressPool{Name: "p", Ranges: []kube.Range{{First: r.First, Last: r.Last}}, AutoAssign: true, AvoidBuggy: true, Priority: 3, NamespaceSelector: "a=b", ServiceSelector: "c", Namespaces: []string{"n"}}
	if !reflect.DeepEqual(got.Pools, []kube.AddressPool{pool}) {
		t.Errorf("pools %+v", got.Pools)
	}
	if !reflect.DeepEqual(got.Flavors, []kube.Flavor{kube.MetalLB, kube.LoxiLB}) {
		t.Errorf("flavors %v", got.Flavors)
	}
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "Server", "TokenFile", "CAFile": // in place of the kubeconfig
		default:
			if v.Field(i).IsZero() {
				t.Errorf("%s is not set", name)
			}
		}
	}
	if got.NodeName != "worker-3" {
		t.Errorf("node name %q", got.NodeName)
	}
	c.Kubernetes.NodeName = "other"
	if got := KubernetesSettings(&c.Kubernetes); got.NodeName != "other" {
		t.Errorf("node name %q", got.NodeName)
	}
	c, err = configs.Parse("f", []byte("[kubernetes]\nserver = \"https://192.0.2.1\"\ntoken_file = \"/t\"\nca_file = \"/c\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	got = KubernetesSettings(&c.Kubernetes)
	if got.Server != "https://192.0.2.1" || got.TokenFile != "/t" || got.CAFile != "/c" || got.LeaseNamespace != "fairlead-system" {
		t.Errorf("settings %+v", got)
	}
	want := kube.Settings{Enabled: true, Class: kube.Class, Method: kube.Pods, LocalMethod: kube.Nodes}
	if got.Class != want.Class || got.Method != want.Method || got.LocalMethod != want.LocalMethod || got.Enabled != want.Enabled {
		t.Errorf("defaults %+v", got)
	}
}

func TestOwnNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "namespace")
	if got := ownNamespace(file); got != "fairlead-system" {
		t.Errorf("without a file: %s", got)
	}
	if err := os.WriteFile(file, []byte("balancers\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ownNamespace(file); got != "balancers" {
		t.Errorf("from a file: %s", got)
	}
}

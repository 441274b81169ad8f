package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/v1alpha1"
)

// service is a Service of type LoadBalancer of our class.
func service(change ...func(*corev1.Service)) *corev1.Service {
	class := "fairlead.io/lb"
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func asks(annotation, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations["fairlead.io/"+annotation] = value }
}

func loadBalancerIP(address string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerIP = address }
}

func class(name *string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = name }
}

// testPolicy shows that wrong addresses are refused when a Service is written.
func (a *api) testPolicy(t *testing.T) {
	services := a.core.CoreV1().Services("default")
	refuse := func(s *corev1.Service) string {
		_, err := services.Create(t.Context(), s, dry)
		if err == nil {
			return ""
		}
		_, text, found := strings.Cut(err.Error(), "denied request: ")
		if !found {
			return err.Error()
		}
		return text
	}
	mustPool := func(p *v1alpha1.AddressPool) {
		t.Helper()
		if _, err := a.ours.Pools().Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// A policy takes effect some time after it was made.
	eventually(t, "the policy on syntax", func() error {
		if refuse(service(loadBalancerIP("web"))) == "" {
			return fmt.Errorf("nothing is refused")
		}
		return nil
	})
	mustPool(pool("first", "192.0.2.0/28", "192.0.2.100-192.0.2.110", "2001:db8::10-2001:db8::1:20", "2001:db8:1::/112", "198.51.100.7"))
	second := pool("second", "203.0.113.0/24")
	second.Spec.AvoidBuggyIPs, second.Spec.Namespaces = true, []string{"db", "default"}
	mustPool(second)
	third := pool("third", "198.18.0.0/24")
	third.Spec.Namespaces = []string{"db"}
	mustPool(third)
	eventually(t, "the policy on named pools", func() error {
		for _, p := range []string{"first", "second", "third"} {
			if refuse(service(loadBalancerIP("192.0.2.99"), asks("pool", p))) == "" {
				return fmt.Errorf("nothing is refused of pool %s", p)
			}
		}
		return nil
	})
	const first = `"first" (192.0.2.0/28, 192.0.2.100-192.0.2.110, 2001:db8::10-2001:db8::1:20, 2001:db8:1::/112, 198.51.100.7)`
	other := "example.com/other"
	for _, test := range []struct {
		name string
		svc  *corev1.Service
		want string
	}{
		{"asks for nothing", service(), ""},
		{"the field", service(loadBalancerIP("web")), `"web" is not an address`},
		{"the annotation", service(asks("addresses", "192.0.2.1, 192.0.2")), `"192.0.2" is not an address`},
		{"two of a family", service(asks("addresses", "192.0.2.1,192.0.2.2")), `asks for several addresses of one family: 192.0.2.1, 192.0.2.2`},
		{"the same twice", service(asks("addresses", "192.0.2.1"), loadBalancerIP("192.0.2.1")), ""},
		{"no class and our annotation", service(class(nil), asks("addresses", "x")), `"x" is not an address`},
		{"no class", service(class(nil), loadBalancerIP("x")), ""},
		{"another class", service(class(&other), loadBalancerIP("x"), asks("addresses", "y")), ""},
		{"not a load balancer", service(class(nil), asks("addresses", "x"), func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), ""},

		{"in a prefix", service(asks("pool", "first"), asks("addresses", "192.0.2.3,2001:db8:1::ffff")), ""},
		{"in a range", service(asks("pool", "first"), asks("addresses", "192.0.2.100,2001:db8::1:20")), ""},
		{"written otherwise", service(asks("pool", "first"), asks("addresses", "2001:0DB8:0::0:FFFF")), ""},
		{"a single address", service(asks("pool", "first"), loadBalancerIP("198.51.100.7")), ""},
		{"before a range", service(asks("pool", "first"), loadBalancerIP("192.0.2.99")), `192.0.2.99 is not in pool ` + first},
		{"behind a range", service(asks("pool", "first"), loadBalancerIP("192.0.2.111")), `192.0.2.111 is not in pool ` + first},
		{"before a range of IPv6", service(asks("pool", "first"), loadBalancerIP("2001:db8::f")), `2001:db8::f is not in pool ` + first},
		{"behind a range of IPv6", service(asks("pool", "first"), loadBalancerIP("2001:db8::1:21")), `2001:db8::1:21 is not in pool ` + first},
		{"one of two", service(asks("pool", "first"), asks("addresses", "192.0.2.3,2001:db8:2::")), `2001:db8:2:: is not in pool ` + first},
		{"a buggy one", service(asks("pool", "second"), loadBalancerIP("203.0.113.255")), `203.0.113.255 is not given out of pool "second", which avoids .0 and .255 (avoidBuggyIPs)`},
		{"not a buggy one", service(asks("pool", "second"), loadBalancerIP("203.0.113.25")), ""},
		{"not for this namespace", service(asks("pool", "third")), `pool "third" is not for namespace "default"`},
		{"a pool that is not there", service(asks("pool", "fourth"), loadBalancerIP("192.0.2.99")), ""},
		{"no pool named, none told of", service(loadBalancerIP("192.0.2.99")), ""},
	} {
		if got := refuse(test.svc); !strings.HasSuffix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
	}

	// What all pools have is told by the writer.
	if _, err := a.core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fairlead-system"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	told, err := a.core.CoreV1().ConfigMaps("fairlead-system").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "fairlead-addresses"},
		Data:       map[string]string{"prefixes": "192.0.2.0/28\n2001:db8:1::/112\n"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy on all pools", func() error {
		if got := refuse(service(loadBalancerIP("192.0.2.99"))); !strings.HasSuffix(got, "192.0.2.99 is in no pool") {
			return fmt.Errorf("refused with %q", got)
		}
		return nil
	})
	for _, test := range []struct {
		name string
		svc  *corev1.Service
		want string
	}{
		{"in some pool", service(asks("addresses", "192.0.2.3,2001:db8:1::ffff")), ""},
		{"in none", service(asks("addresses", "192.0.2.3,2001:db8:2::")), `2001:db8:2:: is in no pool`},
		{"names its pool", service(asks("pool", "first"), loadBalancerIP("192.0.2.105")), ""},
		{"without a class", service(class(nil), loadBalancerIP("192.0.2.99")), ""},
	} {
		if got := refuse(test.svc); !strings.HasSuffix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
	told.Data["default-class"] = "true"
	if _, err := a.core.CoreV1().ConfigMaps("fairlead-system").Update(t.Context(), told, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy on Services without a class", func() error {
		if refuse(service(class(nil), loadBalancerIP("192.0.2.99"))) == "" {
			return fmt.Errorf("nothing is refused")
		}
		return nil
	})

	// What is there may be changed although its address is in no pool any more.
	made, err := services.Create(t.Context(), service(asks("addresses", "192.0.2.5")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told.Data["prefixes"] = "2001:db8:1::/112"
	told.ResourceVersion = ""
	if _, err := a.core.CoreV1().ConfigMaps("fairlead-system").Update(t.Context(), told, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool is gone", func() error {
		if refuse(service(loadBalancerIP("192.0.2.5"))) == "" {
			return fmt.Errorf("nothing is refused")
		}
		return nil
	})
	patch := func(change map[string]any) error {
		text, err := json.Marshal(change)
		if err != nil {
			return err
		}
		_, err = services.Patch(t.Context(), made.Name, types.MergePatchType, text, metav1.PatchOptions{})
		return err
	}
	if err := patch(map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}, "finalizers": []string{"example.com/x"}}}); err != nil {
		t.Errorf("a label and a finalizer: %v", err)
	}
	err = patch(map[string]any{"metadata": map[string]any{"annotations": map[string]any{"fairlead.io/addresses": "192.0.2.6"}}})
	if err == nil || !strings.HasSuffix(err.Error(), "192.0.2.6 is in no pool") {
		t.Errorf("another address: %v", err)
	}
	if err := services.Delete(t.Context(), made.Name, metav1.DeleteOptions{}); err != nil {
		t.Errorf("deletion: %v", err)
	}
	if err := patch(map[string]any{"metadata": map[string]any{"finalizers": nil}}); err != nil {
		t.Errorf("the end of a deletion: %v", err)
	}
}

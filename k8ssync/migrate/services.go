package migrate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// labelSet is labels for a selector.
func labelSet(l map[string]string) labels.Set { return labels.Set(l) }

// Change is what to do to the annotations of one Service.
type Change struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Set       map[string]string `json:"set"`
	Remove    []string          `json:"remove"`
}

// Command is the change as a command of a shell.
func (c Change) Command() string {
	words := []string{"kubectl", "-n", c.Namespace, "annotate", "service", c.Name}
	for _, key := range slices.Sorted(maps.Keys(c.Set)) {
		words = append(words, key+"="+shell(c.Set[key]))
	}
	for _, key := range c.Remove {
		words = append(words, key+"-")
	}
	return strings.Join(words, " ")
}

// shell quotes a word for a shell where it has to be.
func shell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.,:/%+=@", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// The domains of MetalLB's annotations, the newer one first.
var domains = []string{"metallb.io/", "metallb.universe.tf/"}

// counterparts are our annotations for MetalLB's.
var counterparts = map[string]string{
	"loadBalancerIPs": "fairlead.io/addresses",
	"address-pool":    "fairlead.io/pool",
	"allow-shared-ip": "fairlead.io/sharing-key",
}

// allocatedFrom is MetalLB's note of where an address is from.
const allocatedFrom = "ip-allocated-from-pool"

// planKubernetes says which Services are served, and how they change.
func (in *Input) planKubernetes(p *Plan, config *strings.Builder) {
	classes := map[string]bool{}
	annotated := false
	services := sortedBy(in.services, func(s *corev1.Service) string { return s.Namespace + "/" + s.Name })
	sharers := map[string][]string{} // namespaces, by sharing key
	for i := range services {
		if key := annotation(&services[i], "allow-shared-ip"); key != "" && isLoadBalancer(&services[i]) {
			sharers[key] = append(sharers[key], services[i].Namespace)
		}
	}
	for i := range services {
		s := &services[i]
		if !isLoadBalancer(s) {
			continue
		}
		class := ""
		if s.Spec.LoadBalancerClass != nil {
			class = *s.Spec.LoadBalancerClass
		}
		classes[class] = true
		c, foreign := in.change(p, s, sharers)
		annotated = annotated || foreign
		if len(c.Set)+len(c.Remove) > 0 {
			p.Services = append(p.Services, c)
		}
	}
	if len(classes) == 0 && len(in.pools) == 0 {
		return
	}
	fmt.Fprintln(config, "[kubernetes]")
	named := slices.DeleteFunc(slices.Sorted(maps.Keys(classes)), func(c string) bool { return c == "" })
	if len(named) > 0 {
		fmt.Fprintf(config, "class = %s\n", quote(named[0]))
	}
	if len(named) > 1 {
		p.note("Services", "spec.loadBalancerClass", "there are several classes, %s, and one can be served; it cannot be changed, so delete the others and make them again", strings.Join(named, ", "))
	}
	if classes[""] || len(classes) == 0 {
		fmt.Fprintln(config, "default_class = true")
	}
	if annotated {
		fmt.Fprintln(config, "annotations = [\"metallb\"] # until no Service has those of MetalLB")
	}
}

func isLoadBalancer(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// annotation is one of MetalLB's, by its newer or older name.
func annotation(s *corev1.Service, name string) string {
	for _, domain := range domains {
		if v := s.Annotations[domain+name]; v != "" {
			return v
		}
	}
	return ""
}

// change is what to do to one Service. foreign says that it has annotations of
// MetalLB.
func (in *Input) change(p *Plan, s *corev1.Service, sharers map[string][]string) (c Change, foreign bool) {
	subject := "Service " + s.Namespace + "/" + s.Name
	c = Change{Namespace: s.Namespace, Name: s.Name, Set: map[string]string{}, Remove: []string{}}
	for key, value := range s.Annotations {
		i := slices.IndexFunc(domains, func(d string) bool { return strings.HasPrefix(key, d) })
		if i < 0 {
			continue
		}
		c.Remove = append(c.Remove, key)
		name := strings.TrimPrefix(key, domains[i])
		ours, known := counterparts[name]
		switch {
		case name == allocatedFrom:
		case !known:
			p.note(subject, key, "has no counterpart")
		case c.Set[ours] == "" || i == 0: // of two names, the newer
			foreign, c.Set[ours] = true, strings.ReplaceAll(value, " ", "")
		}
	}
	slices.Sort(c.Remove)
	if key := c.Set["fairlead.io/sharing-key"]; key != "" {
		if others := slices.Compact(slices.Sorted(slices.Values(sharers[annotation(s, "allow-shared-ip")]))); len(others) > 1 {
			c.Set["fairlead.io/sharing-namespaces"] = strings.Join(others, ",")
		}
	}
	in.keepAddresses(p, subject, s, &c)
	return c, foreign
}

// keepAddresses asks for the addresses that a Service has, so that it has them
// whatever is done in which order.
func (in *Input) keepAddresses(p *Plan, subject string, s *corev1.Service, c *Change) {
	if c.Set["fairlead.io/addresses"] != "" || s.Spec.LoadBalancerIP != "" {
		return
	}
	var has []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil {
			has = append(has, a.Unmap().String())
		}
	}
	if len(has) == 0 {
		return
	}
	if len(in.pools) > 0 {
		for _, a := range has {
			if !in.inPool(netip.MustParseAddr(a)) {
				p.note(subject, "status", "%s is of no pool: it would not be kept", a)
				return
			}
		}
	}
	c.Set["fairlead.io/addresses"] = strings.Join(has, ",")
}

// inPool reports whether some pool has an address.
func (in *Input) inPool(a netip.Addr) bool {
	for i := range in.pools {
		for _, text := range in.pools[i].Spec.Addresses {
			canonical, wrong := addresses(text)
			if wrong != "" {
				continue
			}
			if prefix, err := netip.ParsePrefix(canonical); err == nil && prefix.Contains(a) {
				return true
			}
			first, last, isRange := strings.Cut(canonical, "-")
			if !isRange {
				last = first
			}
			from, err1 := netip.ParseAddr(first)
			to, err2 := netip.ParseAddr(last)
			if err1 == nil && err2 == nil && from.Is4() == a.Is4() && !a.Less(from) && !to.Less(a) {
				return true
			}
		}
	}
	return false
}

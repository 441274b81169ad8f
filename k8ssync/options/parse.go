package options

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/k8ssync/kube"
)

// Parse reads what a Service says by annotations and by spec.loadBalancerIP. Of
// several that name something else, ours comes first, then flavors in the order of
// kube's constants, then the field.
func Parse(svc *corev1.Service, flavors []kube.Flavor) (kube.Options, []kube.Problem) {
	r := &reader{annotations: svc.Annotations}
	o := r.parse(flavors)
	if v := strings.TrimSpace(svc.Spec.LoadBalancerIP); v != "" {
		a, err := address(v)
		switch {
		case err != nil && len(o.Addresses) == 0:
			o.Hold = true
			r.warn(InvalidLoadBalancerIP, "spec.loadBalancerIP: %s; no address is assigned until it is corrected", err)
		case err != nil:
			r.warn(InvalidLoadBalancerIP, "spec.loadBalancerIP: %s; the annotation holds", err)
		case len(o.Addresses) == 0 && !o.Hold:
			o.Addresses = []netip.Addr{a}
		case len(o.Addresses) > 0 && !slices.Contains(o.Addresses, a):
			r.warn(ConflictingAnnotations, "spec.loadBalancerIP is %s, and an annotation asks for %s: the annotation holds", a, joined(o.Addresses))
		}
	}
	return o, r.problems
}

// ParseAnnotations reads annotations of objects that have no such field.
func ParseAnnotations(annotations map[string]string, flavors []kube.Flavor) (kube.Options, []kube.Problem) {
	r := &reader{annotations: annotations}
	return r.parse(flavors), r.problems
}

// reader carries the reading of one object.
type reader struct {
	annotations map[string]string
	problems    []kube.Problem
}

func (r *reader) has(name string) bool { _, there := r.annotations[name]; return there }

func (r *reader) warn(reason, format string, args ...any) {
	r.problems = append(r.problems, kube.Problem{Severity: kube.Warning, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) invalid(name, why string) {
	r.warn(InvalidAnnotation, "annotation %s: %s; the default is used", name, why)
}

func (r *reader) parse(flavors []kube.Flavor) kube.Options {
	d := &draft{}
	for _, a := range annotations {
		v, there := r.annotations[a.Name]
		if !there {
			continue
		}
		before := *d
		if err := a.set(d, strings.TrimSpace(v)); err == nil {
			continue
		} else if *d = before; a.Name == Addresses {
			d.options.Hold = true
			r.warn(InvalidAnnotation, "annotation %s: %s; no address is assigned until it is corrected", a.Name, err)
		} else {
			r.invalid(a.Name, err.Error())
		}
	}
	r.check(d)
	r.flavored(d, flavors)
	if len(d.options.SharingNamespace) > 0 && d.options.SharingKey == "" {
		r.warn(AnnotationWithoutEffect, "annotation %s: has no effect without %s", SharingNamespaces, SharingKey)
		d.options.SharingNamespace = nil
	}
	r.unknown()
	return d.options
}

// unknown finds those in our name that there are not.
func (r *reader) unknown() {
	known := make([]string, len(annotations))
	for i, a := range annotations {
		known[i] = a.Name
	}
	for _, n := range slices.Sorted(maps.Keys(r.annotations)) {
		switch {
		case !strings.HasPrefix(n, kube.Domain+"/") || slices.Contains(known, n):
		case n == Weight:
			r.warn(UnknownAnnotation, "annotation %s: is for pods, in the template of what makes them", n)
		default:
			r.warn(UnknownAnnotation, "annotation %s: is not known%s", n, suggest(n, known))
		}
	}
}

func joined(all []netip.Addr) string {
	text := make([]string, len(all))
	for i, a := range all {
		text[i] = a.String()
	}
	return strings.Join(text, " and ")
}

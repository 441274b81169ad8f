package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
)

// Backends are the backends of one port of a Service, of one family, by the method
// that holds for the Service; its type, its class and its status do not matter. They
// are sorted by address and port and named after pods, or nodes. Those with weight 0
// get no new flows, and keep those that they have.
func Backends(in Input, port corev1.ServicePort, family corev1.IPFamily) ([]model.Backend, []kube.Problem) {
	t := &translation{Input: in, method: MethodOf(in.Service, in.Options, in.Settings), seen: map[kube.Problem]bool{}}
	if _, _, ok := t.port(&port); !ok {
		return nil, t.problems
	}
	return t.backends(&port, family != corev1.IPv6Protocol), t.problems
}

// backends are those of one port and family.
func (t *translation) backends(port *corev1.ServicePort, four bool) []model.Backend {
	var list []model.Backend
	if t.method == kube.Pods {
		list = t.pods(port, four)
	} else {
		list = t.nodes(port, four)
	}
	if len(list) > model.MaxPoolBackends {
		t.warn(TooManyEndpoints, "port %d: has %d backends, and a pool may have %d: the others are left out", port.Port, len(list), model.MaxPoolBackends)
		slices.SortStableFunc(list, func(a, b model.Backend) int { return first(a.Weight > 0, b.Weight > 0) })
		list = list[:model.MaxPoolBackends]
	}
	slices.SortFunc(list, func(a, b model.Backend) int {
		return cmp.Or(a.Endpoint().Compare(b.Endpoint()), cmp.Compare(a.Name, b.Name))
	})
	uniqueNames(list)
	return list
}

// pods are the endpoints themselves. One that takes no new flows stays with weight 0
// for as long as a slice has it, because TCP connections to it go on (KEP-1669). A
// UDP flow has no end that could be waited for: it leaves an endpoint that is not
// ready at once, but not one that is merely in another zone.
func (t *translation) pods(port *corev1.ServicePort, four bool) []model.Backend {
	zone := t.Settings.Zone
	if Local(t.Service) {
		zone = "" // Local goes before zones
	}
	all := t.gather(port, four)
	takes := takers(all, zone)
	list := make([]model.Backend, 0, len(all))
	weights := t.weigher()
	for i := range all {
		e := &all[i]
		b := model.Backend{Name: usable(e.name), Address: e.at.Addr(), Port: e.at.Port()}
		switch {
		case takes[i]:
			b.Weight = weights.of(e)
		case protocolOf(port) == corev1.ProtocolUDP && !e.ready:
			continue
		}
		list = append(list, b)
	}
	weights.tell(t)
	return list
}

// weigher reads the weights of pods.
type weigher struct {
	read func(namespace, name string) (string, bool)
	bad  map[string]string // by pod
}

func (t *translation) weigher() *weigher {
	return &weigher{read: t.PodWeight, bad: map[string]string{}}
}

// of is an endpoint's weight: 1 when nothing else is said.
func (w *weigher) of(e *endpoint) int {
	if w.read == nil || !e.pod {
		return 1
	}
	text, ok := w.read(e.namespace, e.name)
	if !ok {
		return 1
	}
	n, err := options.ParseWeight(text)
	if err != nil {
		w.bad[e.name] = err.Error()
		return 1
	}
	return n
}

func (w *weigher) tell(t *translation) {
	if len(w.bad) > 0 {
		pod := slices.Min(slices.Collect(maps.Keys(w.bad)))
		t.warn(InvalidWeight, "pod %s: annotation %s: %s; the weight is 1%s", pod, options.Weight, w.bad[pod], andMore(len(w.bad)))
	}
}

// usable is a name, or none where the model would refuse it.
func usable(name string) string {
	if model.NameProblem(name) != "" {
		return ""
	}
	return name
}

// uniqueNames tells those of one name apart by their addresses and ports.
func uniqueNames(list []model.Backend) {
	for _, distinct := range []func(b *model.Backend) string{
		func(b *model.Backend) string { return usable(b.Name + " (" + where(b) + ")") },
		func(*model.Backend) string { return "" },
	} {
		count := make(map[string]int, len(list))
		for i := range list {
			count[list[i].Name]++
		}
		for i := range list {
			if b := &list[i]; b.Name != "" && count[b.Name] > 1 {
				b.Name = distinct(b)
			}
		}
	}
}

func where(b *model.Backend) string {
	if b.Port == 0 {
		return b.Address.String()
	}
	return netip.AddrPortFrom(b.Address, b.Port).String()
}

// andMore counts all but the one that was named.
func andMore(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n-1)
}

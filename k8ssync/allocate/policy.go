package allocate

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
)

// The keys of the policy's ConfigMap: addresses of all pools as prefixes, one a line;
// whether Services without a class are ours; and, one a line, the classes that have
// ever been ours: of all who write under one Lease, because another installation may
// be told of by the same ConfigMap.
const (
	policyPrefixes     = "prefixes"
	policyDefaultClass = "default-class"
	policyClasses      = "classes." // and the name of the Lease
)

// EarlierClasses are the classes of Services that were served before the present one,
// by what is recorded beside the policy's addresses. It asks the API server.
func (a *Allocator) EarlierClasses(ctx context.Context) ([]string, error) {
	if a.cfg.Policy == nil {
		return nil, nil
	}
	told, err := a.cfg.Policy.ConfigMaps.Get(ctx, a.cfg.Policy.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("config map %s: %w", a.cfg.Policy.Name, err)
	}
	return slices.DeleteFunc(a.cfg.Policy.classesIn(told), func(c string) bool { return c == a.cfg.Policy.Class }), nil
}

func (p *Policy) classesIn(m *corev1.ConfigMap) []string {
	return strings.Fields(m.Data[policyClasses+p.Lease])
}

// tellPolicy writes the ConfigMap of the policy if it says something else.
func (a *Allocator) tellPolicy(ctx context.Context) error {
	if a.cfg.Policy == nil {
		return nil
	}
	a.mu.Lock()
	pools := a.usable()
	a.mu.Unlock()
	own := policyClasses + a.cfg.Policy.Lease
	want := map[string]string{
		policyPrefixes:     strings.Join(prefixesOf(pools), "\n"),
		policyDefaultClass: strconv.FormatBool(a.cfg.Policy.DefaultClass),
		own:                a.cfg.Policy.Class,
	}
	objects := a.cfg.Policy.ConfigMaps
	told, err := objects.Get(ctx, a.cfg.Policy.Name, metav1.GetOptions{})
	if err == nil {
		classes := append(a.cfg.Policy.classesIn(told), a.cfg.Policy.Class)
		slices.Sort(classes)
		want[own] = strings.Join(slices.Compact(classes), "\n")
		for key, text := range told.Data {
			if key != own && strings.HasPrefix(key, policyClasses) {
				want[key] = text // another installation's
			}
		}
	}
	switch {
	case apierrors.IsNotFound(err):
		_, err = objects.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name:   a.cfg.Policy.Name,
				Labels: map[string]string{"app.kubernetes.io/managed-by": Manager},
			},
			Data: want,
		}, metav1.CreateOptions{FieldManager: Manager})
	case err == nil && !maps.Equal(told.Data, want):
		told.Data = want
		_, err = objects.Update(ctx, told, metav1.UpdateOptions{FieldManager: Manager})
	}
	if err != nil {
		return fmt.Errorf("config map %s: %w", a.cfg.Policy.Name, err)
	}
	return nil
}

// prefixesOf are all addresses of pools, as prefixes in order.
func prefixesOf(pools []kube.AddressPool) []string {
	var all []netip.Prefix
	for _, p := range pools {
		for _, r := range p.Ranges {
			all = append(all, prefixes(r)...)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	all = slices.Compact(all)
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = p.String()
	}
	return texts
}

// prefixes are the fewest prefixes that have exactly the addresses of a range.
func prefixes(r kube.Range) []netip.Prefix {
	var all []netip.Prefix
	for first := r.First; first.IsValid() && !r.Last.Less(first); {
		// The widest prefix that begins here and does not go beyond the end.
		length := first.BitLen() - trailingZeros(first)
		p := netip.PrefixFrom(first, length)
		for r.Last.Less(last(p)) {
			length++
			p = netip.PrefixFrom(first, length)
		}
		all = append(all, p)
		first = last(p).Next()
	}
	return all
}

func trailingZeros(a netip.Addr) int {
	raw := a.AsSlice()
	zeros := 0
	for i := len(raw) - 1; i >= 0; i-- {
		n := bits.TrailingZeros8(raw[i])
		zeros += n
		if n < 8 {
			break
		}
	}
	return zeros
}

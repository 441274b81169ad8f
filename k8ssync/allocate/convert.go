package allocate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
)

// PoolOf is a pool object in plain types. What the API server has let pass and is
// wrong nevertheless is an error.
func PoolOf(o *v1alpha1.AddressPool) (kube.AddressPool, error) {
	p := kube.AddressPool{
		Name:       o.Name,
		AutoAssign: o.Spec.AutoAssign == nil || *o.Spec.AutoAssign,
		AvoidBuggy: o.Spec.AvoidBuggyIPs,
		Priority:   int(o.Spec.Priority),
		Namespaces: o.Spec.Namespaces,
	}
	var problems []error
	for i, text := range o.Spec.Addresses {
		r, err := ParseRange(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("spec.addresses[%d]: %w", i, err))
			continue
		}
		p.Ranges = append(p.Ranges, r)
	}
	for _, s := range []struct {
		field    string
		selector *metav1.LabelSelector
		text     *string
	}{
		{"namespaceSelector", o.Spec.NamespaceSelector, &p.NamespaceSelector},
		{"serviceSelector", o.Spec.ServiceSelector, &p.ServiceSelector},
	} {
		if s.selector == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(s.selector)
		if err != nil {
			problems = append(problems, fmt.Errorf("spec.%s: %w", s.field, err))
			continue
		}
		*s.text = selector.String()
	}
	return p, errors.Join(problems...)
}

// ParseRange reads a prefix, an inclusive range, or an address.
func ParseRange(text string) (kube.Range, error) {
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			return kube.Range{}, fmt.Errorf("%q is not a prefix such as 192.0.2.0/24", text)
		}
		return kube.Range{First: prefix.Masked().Addr(), Last: last(prefix)}, nil
	}
	from, to, found := strings.Cut(text, "-")
	if !found {
		to = from
	}
	first, err := netip.ParseAddr(strings.TrimSpace(from))
	end, err2 := netip.ParseAddr(strings.TrimSpace(to))
	switch {
	case err != nil || err2 != nil || first.Zone() != "" || end.Zone() != "" || first.Is4In6() || end.Is4In6():
		return kube.Range{}, fmt.Errorf("%q is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20", text)
	case first.Is4() != end.Is4():
		return kube.Range{}, fmt.Errorf("%q has its ends in two families", text)
	case end.Less(first):
		return kube.Range{}, fmt.Errorf("%q ends before it begins", text)
	}
	return kube.Range{First: first, Last: end}, nil
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(raw); bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

func kindOf(k kube.Kind) string {
	if k == kube.Gateway {
		return v1alpha1.KindGateway
	}
	return v1alpha1.KindService
}

func keyOf(kind, namespace, name string) kube.Key {
	k := kube.Key{Kind: kube.Service, Namespace: namespace, Name: name}
	if kind == v1alpha1.KindGateway {
		k.Kind = kube.Gateway
	}
	return k
}

// recorded is a reservation object in plain types.
func recorded(o *v1alpha1.AddressReservation) (ledger.Reservation, error) {
	address, err := v1alpha1.ReservationAddress(o.Name)
	if err != nil {
		return ledger.Reservation{}, err
	}
	r := ledger.Reservation{Address: address, Retained: o.Spec.Retain}
	if f := o.Spec.ReservedFor; f != nil {
		key := keyOf(f.Kind, f.Namespace, f.Name)
		r.For = &key
	}
	for _, h := range o.Spec.Holders {
		holder := ledger.Holder{
			Key: keyOf(h.Kind, h.Namespace, h.Name), UID: h.UID,
			SharingKey: h.SharingKey, SharingNamespaces: h.SharingNamespaces, Retain: h.Retain,
		}
		for _, p := range h.Ports {
			holder.Ports = append(holder.Ports, ledger.Port{Protocol: p.Protocol, Port: uint16(p.Port)})
		}
		r.Holders = append(r.Holders, holder)
	}
	return r, nil
}

// specOf is what a reservation object is to say. Claims are taken over from what it
// says so far.
func specOf(r ledger.Reservation, pool string, before *v1alpha1.AddressReservation) v1alpha1.AddressReservationSpec {
	spec := v1alpha1.AddressReservationSpec{Address: r.Address.String(), Pool: pool, Retain: r.Retained}
	if r.For != nil {
		spec.ReservedFor = &v1alpha1.ObjectReference{Kind: kindOf(r.For.Kind), Namespace: r.For.Namespace, Name: r.For.Name}
	}
	claims := map[kube.Key]*metav1.MicroTime{}
	if before != nil {
		for _, h := range before.Spec.Holders {
			claims[keyOf(h.Kind, h.Namespace, h.Name)] = h.Claimed
		}
	}
	for _, h := range r.Holders {
		holder := v1alpha1.Holder{
			Kind: kindOf(h.Key.Kind), Namespace: h.Key.Namespace, Name: h.Key.Name, UID: h.UID,
			SharingKey: h.SharingKey, SharingNamespaces: h.SharingNamespaces, Retain: h.Retain, Claimed: claims[h.Key],
		}
		for _, p := range h.Ports {
			holder.Ports = append(holder.Ports, v1alpha1.HolderPort{Protocol: p.Protocol, Port: int32(p.Port)})
		}
		spec.Holders = append(spec.Holders, holder)
	}
	return spec
}

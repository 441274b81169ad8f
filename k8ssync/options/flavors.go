package options

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// foreign is an annotation of another load balancer, and what it says in ours.
type foreign struct {
	name string
	asks bool // for addresses
	set  func(f *foreigner, value string) error
}

// foreigner is what the annotations of one flavor say.
type foreigner struct {
	addresses  []netip.Addr
	pool       string
	key        string
	namespaces []string
	idle       time.Duration
	liveness   string
	probe      model.Check
}

// flavor is how another load balancer is talked to.
type flavor struct {
	name kube.Flavor
	// anywhere: whoever has the sharing key may share, in any namespace.
	anywhere    bool
	annotations []foreign
}

// Flavors are all whose annotations can be read, in the order of precedence.
func Flavors() (all []kube.Flavor) {
	for _, f := range flavors {
		all = append(all, f.name)
	}
	return all
}

// Foreign are the annotations of a flavor that are read.
func Foreign(name kube.Flavor) (names []string) {
	for _, f := range flavors {
		for _, a := range f.annotations {
			if f.name == name {
				names = append(names, a.name)
			}
		}
	}
	return names
}

var flavors = [...]flavor{
	{kube.MetalLB, true, []foreign{
		{"metallb.io/loadBalancerIPs", true, setAddresses},
		{"metallb.universe.tf/loadBalancerIPs", true, setAddresses},
		{"metallb.io/address-pool", false, setPool},
		{"metallb.universe.tf/address-pool", false, setPool},
		{"metallb.io/allow-shared-ip", false, setKey},
		{"metallb.universe.tf/allow-shared-ip", false, setKey},
	}},
	{kube.Cilium, false, []foreign{
		{"lbipam.cilium.io/ips", true, setFirstAddresses},
		{"io.cilium/lb-ipam-ips", true, setFirstAddresses},
		{"lbipam.cilium.io/sharing-key", false, setKey},
		{"io.cilium/lb-ipam-sharing-key", false, setKey},
		{"lbipam.cilium.io/sharing-cross-namespace", false, setNamespaces},
		{"io.cilium/lb-ipam-sharing-cross-namespace", false, setNamespaces},
	}},
	{kube.KubeVIP, false, []foreign{
		{"kube-vip.io/loadbalancerIPs", true, setKubeVIP},
	}},
	{kube.PureLB, true, []foreign{
		{"purelb.io/addresses", true, setAddresses},
		{"purelb.io/service-group", false, setPool},
		{"purelb.io/allow-shared-ip", false, setKey},
	}},
	{kube.LoxiLB, false, []foreign{
		{"loxilb.io/staticIP", true, setAddresses},
		{"loxilb.io/poolSelect", false, setPool},
		{"loxilb.io/timeout", false, setSeconds},
		{"loxilb.io/liveness", false, func(f *foreigner, v string) (err error) { f.liveness, err = word(v, "yes", "no"); return err }},
		{"loxilb.io/probetype", false, setProbe},
		{"loxilb.io/probeport", false, func(f *foreigner, v string) error {
			n, err := number(v, 1, 65535)
			f.probe.Port = uint16(n)
			return err
		}},
	}},
}

func setAddresses(f *foreigner, v string) error {
	if len(f.addresses) > 0 {
		return nil // the same by its older name
	}
	all, err := addresses(v)
	f.addresses = all
	return err
}

// setFirstAddresses takes the first of each family: several of one are allowed
// there, and a Service has one VIP of each here.
func setFirstAddresses(f *foreigner, v string) error {
	if len(f.addresses) > 0 {
		return nil
	}
	for _, item := range list(v) {
		a, err := address(item)
		if err != nil {
			f.addresses = nil
			return err
		}
		if !slices.ContainsFunc(f.addresses, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			f.addresses = append(f.addresses, a)
		}
	}
	if len(f.addresses) == 0 {
		return errors.New("is empty")
	}
	return nil
}

// errDHCP: an address by DHCP is one that nobody asks for by name.
var errDHCP = errors.New("addresses by DHCP are not supported; one of a pool is assigned")

func setKubeVIP(f *foreigner, v string) error {
	if v == "0.0.0.0" || v == "::" {
		return errDHCP
	}
	return setAddresses(f, v)
}

func setPool(f *foreigner, v string) (err error) {
	if f.pool == "" {
		f.pool, err = name(v)
	}
	return err
}

func setKey(f *foreigner, v string) (err error) {
	if f.key == "" {
		f.key, err = name(v)
	}
	return err
}

func setNamespaces(f *foreigner, v string) (err error) {
	if len(f.namespaces) == 0 {
		f.namespaces, err = namespaces(v)
	}
	return err
}

func setSeconds(f *foreigner, v string) error {
	n, err := number(v, 1, int(model.MaxTimeout/time.Second))
	f.idle = time.Duration(n) * time.Second
	return err
}

func setProbe(f *foreigner, v string) error {
	if v == "ping" {
		f.probe.Type = model.CheckICMP
		return nil
	}
	w, err := word(v, "ping", string(model.CheckTCP), string(model.CheckUDP), string(model.CheckHTTP), string(model.CheckHTTPS), noCheck)
	f.probe.Type = model.CheckType(w)
	return err
}

// flavored takes what flavors say where ours say nothing.
func (r *reader) flavored(d *draft, on []kube.Flavor) {
	for i := range flavors {
		if !slices.Contains(on, flavors[i].name) {
			continue
		}
		f, asked := foreigner{}, ""
		for _, a := range flavors[i].annotations {
			v, there := r.annotations[a.name]
			if !there {
				continue
			}
			before := f
			err := a.set(&f, strings.TrimSpace(v))
			if err == nil {
				if len(f.addresses) != len(before.addresses) {
					asked = a.name
				}
				continue
			}
			f = before
			switch {
			case errors.Is(err, errDHCP):
				r.warn(InvalidAnnotation, "annotation %s: %s", a.name, err)
			case a.asks && len(d.options.Addresses) > 0:
				r.warn(InvalidAnnotation, "annotation %s: %s; another annotation holds", a.name, err)
			case a.asks:
				d.options.Hold = true
				r.warn(InvalidAnnotation, "annotation %s: %s; no address is assigned until it is corrected", a.name, err)
			default:
				r.invalid(a.name, err.Error())
			}
		}
		if f.key != "" && len(f.namespaces) == 0 && flavors[i].anywhere {
			f.namespaces = []string{"*"}
		}
		r.merge(&d.options, &f, asked)
	}
}

// merge takes what nobody has said yet. asked is the annotation that has the
// addresses.
func (r *reader) merge(o *kube.Options, f *foreigner, asked string) {
	switch {
	case len(o.Addresses) == 0 && !o.Hold:
		o.Addresses = f.addresses
	case len(f.addresses) > 0 && len(o.Addresses) > 0 && !slices.Equal(o.Addresses, f.addresses):
		r.warn(ConflictingAnnotations, "annotation %s: %s is asked for, and %s by another annotation, which holds", asked, joined(f.addresses), joined(o.Addresses))
	}
	if o.Pool == "" {
		o.Pool = f.pool
	}
	if o.SharingKey == "" {
		o.SharingKey = f.key
		if len(o.SharingNamespace) == 0 && f.key != "" {
			o.SharingNamespace = f.namespaces
		}
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = f.idle
	}
	if o.Check != nil || o.DisableCheck {
		return
	}
	switch {
	case f.liveness == "no" || f.probe.Type == noCheck:
		o.DisableCheck = true
	case f.probe.Type != "" && f.liveness != "no":
		c := f.probe
		if c.Type == model.CheckICMP {
			c.Port = 0
		}
		o.Check = &c
	case f.liveness == "yes":
		o.Check = &model.Check{Type: model.CheckTCP, Port: f.probe.Port}
	}
}

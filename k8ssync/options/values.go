package options

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	netutils "k8s.io/utils/net"

	"fairlead/controlplane/model"
)

// word is one of some words.
func word[T ~string](v string, known ...T) (T, error) {
	if slices.Contains(known, T(v)) {
		return T(v), nil
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	return "", fmt.Errorf("%q is none of %s%s", v, strings.Join(words, ", "), suggest(v, words))
}

func boolean(v string) (bool, error) {
	w, err := word(v, "true", "false")
	return w == "true", err
}

func number(v string, least, most int) (int, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not a whole number", v)
	}
	if err != nil || n < int64(least) || n > int64(most) {
		return 0, fmt.Errorf("%s is out of range; it must be %d to %d", v, least, most)
	}
	return int(n), nil
}

func duration(v string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return 0, fmt.Errorf(`%q is not a duration with a unit, such as "30s" or "5m"`, v)
	case d < least || d > most:
		return 0, fmt.Errorf("%s is out of range; it must be %s to %s", v, least, most)
	case d%time.Millisecond != 0:
		return 0, fmt.Errorf("%s is not a whole number of milliseconds", v)
	}
	return d, nil
}

// name is a name of somebody else's choice.
func name(v string) (string, error) {
	if v == "" {
		return "", errors.New("is empty")
	}
	if bad := model.NameProblem(v); bad != "" {
		return "", errors.New(bad)
	}
	return v, nil
}

// list splits what has commas between.
func list(v string) (items []string) {
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func namespaces(v string) ([]string, error) {
	all := list(v)
	if len(all) == 0 {
		return nil, errors.New("is empty")
	}
	if slices.Contains(all, "*") {
		return []string{"*"}, nil
	}
	for _, n := range all {
		if _, err := name(n); err != nil {
			return nil, fmt.Errorf("namespace %q %w", n, err)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// address reads one as sloppily as Kubernetes does, and gives it canonically.
func address(v string) (netip.Addr, error) {
	ip := netutils.ParseIPSloppy(v)
	if ip == nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", v)
	}
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if bad := model.AddressProblem(a); bad != "" {
		return netip.Addr{}, fmt.Errorf("%s %s", a, bad)
	}
	return a, nil
}

// addresses are at most one of each family; the first one leads.
func addresses(v string) ([]netip.Addr, error) {
	all := list(v)
	if len(all) == 0 {
		return nil, errors.New("is empty")
	}
	var out []netip.Addr
	for _, item := range all {
		a, err := address(item)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }); i >= 0 && out[i] != a {
			return nil, fmt.Errorf("%s and %s are of one family; a Service has one VIP of each", out[i], a)
		} else if i < 0 {
			out = append(out, a)
		}
	}
	return out, nil
}

func statuses(v string) (ranges []model.StatusRange, err error) {
	for _, item := range list(v) {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(strings.TrimSpace(first))
		to, err2 := strconv.Atoi(strings.TrimSpace(last))
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf(`%q is not a status code or a range of them such as "200-299"`, item)
		}
		ranges = append(ranges, model.StatusRange{First: from, Last: to})
	}
	if len(ranges) == 0 {
		return nil, errors.New("is empty")
	}
	return ranges, nil
}

// ParseWeight reads the annotation Weight of a pod.
func ParseWeight(v string) (int, error) { return number(v, 0, model.MaxWeight) }

package gateway

import (
	"cmp"
	"math/big"
	"slices"

	"fairlead/controlplane/model"
)

// portion is what one backendRef of a route contributes to a pool: backends among
// which its weight is divided as their own weights say.
type portion struct {
	weight   int64
	backends []model.Backend
}

// share makes the backends of one pool of the portions of a route, such that each
// gets weight/(sum of weights) of the new connections, and what of them is due to
// nobody: the weight that is to be refused, in the same terms. Nothing is lost by
// rounding when the exact proportions can be told by weights of at most
// model.MaxWeight; else the greatest becomes that, and no share becomes nothing.
//
// All is done in integers, so that all nodes have the same weights. An endpoint that
// several portions have gets the sum. Backends come sorted by endpoint.
func share(portions []portion, lost int64) (backends []model.Backend, refused int) {
	common := big.NewInt(1) // a multiple of the sums of backends' weights of all portions
	sums := make([]*big.Int, len(portions))
	for i, p := range portions {
		sum := new(big.Int)
		for _, b := range p.backends {
			sum.Add(sum, big.NewInt(int64(b.Weight)))
		}
		sums[i] = sum
		if sum.Sign() == 0 {
			lost += p.weight
			continue
		}
		gcd := new(big.Int).GCD(nil, nil, common, sum)
		common = new(big.Int).Mul(common, new(big.Int).Div(sum, gcd))
	}
	exact := []*big.Int{new(big.Int).Mul(big.NewInt(lost), common)} // the first: what is refused
	at := make(map[string]int)                                      // by endpoint: index in backends
	for i, p := range portions {
		for _, b := range p.backends {
			due := new(big.Int)
			if sums[i].Sign() > 0 {
				due.Mul(big.NewInt(p.weight*int64(b.Weight)), new(big.Int).Div(common, sums[i]))
			}
			key := b.Endpoint().String()
			j, known := at[key]
			if !known {
				j = len(backends)
				at[key] = j
				backends = append(backends, b)
				exact = append(exact, new(big.Int))
			} else if b.Name < backends[j].Name {
				backends[j].Name = b.Name
			}
			exact[j+1].Add(exact[j+1], due)
		}
	}
	weights := scale(exact)
	for i := range backends {
		backends[i].Weight = weights[i+1]
	}
	slices.SortFunc(backends, func(a, b model.Backend) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port))
	})
	return backends, weights[0]
}

// scale brings numbers to the range of weights in their proportions.
func scale(exact []*big.Int) []int {
	divisor, most := new(big.Int), new(big.Int)
	for _, e := range exact {
		if e.Sign() > 0 {
			divisor.GCD(nil, nil, divisor, e)
		}
		if e.Cmp(most) > 0 {
			most = e
		}
	}
	out := make([]int, len(exact))
	if most.Sign() == 0 {
		return out
	}
	top := new(big.Int).Div(most, divisor)
	limit := big.NewInt(model.MaxWeight)
	for i, e := range exact {
		if e.Sign() == 0 {
			continue
		}
		if top.Cmp(limit) <= 0 {
			out[i] = int(new(big.Int).Div(e, divisor).Int64())
			continue
		}
		// Rounded to the nearest: (2 e limit + most) / (2 most).
		n := new(big.Int).Mul(e, limit)
		n.Add(n.Lsh(n, 1), most)
		out[i] = max(1, int(n.Div(n, new(big.Int).Lsh(most, 1)).Int64()))
	}
	return out
}

// distinct gives backends of one name different ones, by their endpoints.
func distinct(backends []model.Backend) {
	count := make(map[string]int, len(backends))
	for i := range backends {
		count[backends[i].Name]++
	}
	for i := range backends {
		if b := &backends[i]; count[b.Name] > 1 && b.Name != "" {
			b.Name = shorten(b.Name + "@" + b.Endpoint().String())
		}
	}
}

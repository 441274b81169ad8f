package metrics

// fixedOwners shares VIPs with others, and nothing changes.
type fixedOwners struct{}

func (fixedOwners) VIPOwnership() *VIPOwnership {
	return &VIPOwnership{Owned: map[string]int{"lb1": 3, "lb2": 4}, Unowned: 1, Taken: 9, Yielded: 6, Returns: 2, Impaired: true, Settled: true}
}

// noOwners is a node that is alone.
type noOwners struct{}

func (noOwners) VIPOwnership() *VIPOwnership { return nil }

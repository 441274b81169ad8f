package metrics

// fixedCluster is a node that is one of three, and nothing changes.
type fixedCluster struct{}

func (fixedCluster) Cluster() *Cluster {
	return &Cluster{
		Members: map[string]int{"alive": 2, "dead": 1}, Drained: 1, Wire: 1, Events: map[string]uint64{"joined": 3, "died": 1}, Packets: Directions{1, 2}, Bytes: Directions{3, 4},
		Undecipherable: 5, Unrelayed: 6, Strain: 1, Rotations: 7, Connected: map[string]bool{"lb2": true, "lb3": false}, Accepted: 8, Failed: 9, Refused: map[string]uint64{"rate": 10},
		Messages: Directions{11, 12}, StreamBytes: Directions{13, 14}, Entries: 15, Tombstones: 16, Held: 17, Written: 18, Taken: 19, EntriesRefused: map[string]uint64{"forged": 20},
		Compared: 30, Differed: 10, Wrong: 2, Fetched: Directions{21, 22}, Mismatches: map[string]int{"lb2": 1, "lb3": 0}, TableComparisons: 26, NotCompared: 1,
	}
}

// noCluster is a node that is alone.
type noCluster struct{}

func (noCluster) Cluster() *Cluster { return nil }

package configs

// ClusterHealth is how the nodes check backends together: the table
// [cluster.health].
type ClusterHealth struct {
	Checkers       int // nodes that check each backend; 0: all
	TunnelCheckers int // the same of backends that are checked by a tunnel or their link-layer address
}

const maxCheckers = 1000

func defaultClusterHealth() ClusterHealth { return ClusterHealth{Checkers: 3} }

func (t *table) clusterHealth(out *ClusterHealth) {
	h := t.sub("health", "[cluster.health]")
	out.Checkers = h.integer("checkers", out.Checkers, 0, maxCheckers)
	out.TunnelCheckers = h.integer("tunnel_checkers", out.TunnelCheckers, 0, maxCheckers)
	h.finish()
}

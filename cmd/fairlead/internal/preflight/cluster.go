package preflight

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"fairlead/cluster/identity"
)

// cluster checks that a node of a cluster can prove who it is: with the cluster key,
// or with the credential that it has made with it before.
func (c *checker) cluster() {
	cfg := &c.cfg.Cluster
	if !cfg.Enabled {
		return
	}
	if c.cfg.Node.Name != "" { // the host's, which the file does not know, otherwise
		if err := identity.CheckName(c.cfg.Node.Name); err != nil {
			c.add(Error, "[cluster]", "%v: set [node] name", err)
		}
	}
	_, err := identity.ReadKeys(cfg.KeyFile)
	if err == nil {
		return
	}
	_, had := os.Stat(filepath.Join(c.cfg.Store.Directory, "cluster", "node.pem"))
	if errors.Is(err, fs.ErrNotExist) && had == nil {
		c.add(Warning, "[cluster]", "%v: the node goes on with the credential that it has", err)
		return
	}
	c.add(Error, "[cluster]", "%v", err)
}

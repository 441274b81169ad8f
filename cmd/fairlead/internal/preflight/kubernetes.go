package preflight

import (
	"fairlead/configs"
	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/setup"
)

// kubernetes checks that the credentials are there, and that what its methods need is
// configured. The API server is not asked.
func (c *checker) kubernetes() {
	k := &c.cfg.Kubernetes
	if !k.Enabled {
		return
	}
	const subject = "[kubernetes]"
	if err := setup.Credentials(kube.Settings{Kubeconfig: k.Kubeconfig, Context: k.Context, Server: k.Server, TokenFile: k.TokenFile, CAFile: k.CAFile}); err != nil {
		// It is no reason not to forward: what was in force before is on the disk.
		c.add(Warning, subject, "%v; until that is corrected the node goes by what it had of Kubernetes", err)
		if k.Server == "" {
			c.do("make a kubeconfig, and name it in [kubernetes]", "fairlead k8s kubeconfig /etc/fairlead/kubeconfig")
		}
	}
	if c.cfg.Store.Directory == "" {
		c.add(Warning, subject, "without a directory in [state] a restart while the API server is away comes up with nothing of it")
	}
	for _, m := range []struct {
		key    string
		method configs.KubernetesMethod
	}{{"method", k.Method}, {"local_method", k.LocalMethod}} {
		switch t := &c.cfg.State.Tunnel; {
		case m.method != configs.KubernetesNodes && len(c.cfg.State.SNATs) == 0:
			c.add(Warning, subject, "%s %s goes by NAT, and there is no [[snat]]: Services that use it are refused", m.key, m.method)
		case m.method == configs.KubernetesNodes && k.NodesVia != model.L2 && !t.Source4.IsValid() && !t.Source6.IsValid():
			c.add(Warning, subject, "%s %s goes by %s, and [tunnel] has no source: Services that use it are refused", m.key, m.method, k.NodesVia)
		}
	}
}

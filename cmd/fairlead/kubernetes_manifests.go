package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	manifests "fairlead/configs/kubernetes"
	"fairlead/k8ssync/setup"
)

// What is applied where, in the order in which it can be.
var (
	insideManifests  = []string{"namespace.yaml", "crds", "rbac.yaml", "policy.yaml", "config.yaml", "service.yaml", "disruptionbudget.yaml", "networkpolicy.yaml", "daemonset.yaml"}
	outsideManifests = []string{"namespace.yaml", "crds", "rbac.yaml", "policy.yaml", "token.yaml"}
)

func newKubernetesManifests() *cobra.Command {
	c := &cobra.Command{
		Use:   "manifests",
		Short: "Print the manifests that prepare a cluster for Fairlead",
		Long: `Print the manifests that run Fairlead in a cluster: namespace, CRDs, roles, admission
policies, configuration, and a DaemonSet on nodes with the label
fairlead.io/balancer=true. The configuration of each node, in the ConfigMap, and the image
are to be edited. The Secret with the cluster key is made by hand.

With --outside they are those for balancers that are not in the cluster: namespace,
CRDs, roles, admission policies, and a service account with a token, of which
"fairlead k8s kubeconfig" makes a kubeconfig.

The chart in configs/helm/fairlead makes the same objects.`,
		Example: `  fairlead k8s manifests --outside | kubectl apply --server-side -f -
  fairlead k8s manifests --image registry.example.com/fairlead:1.0 --backend > fairlead.yaml`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	outside := f.Bool("outside", false, "for balancers outside of the cluster")
	backend := f.Bool("backend", false, "also the DaemonSet that takes tunnel headers off, on all nodes")
	class := f.Bool("gateway-class", false, "also a GatewayClass; the Gateway API has to be installed")
	image := f.String("image", "", "the image of Fairlead")
	c.RunE = func(*cobra.Command, []string) error {
		if *outside && *image != "" && !*backend {
			return usageError("--image has no meaning with --outside: nothing of Fairlead runs in the cluster")
		}
		names := insideManifests
		if *outside {
			names = outsideManifests
		}
		if *backend {
			names = append(names[:len(names):len(names)], "backend.yaml")
		}
		if *class {
			names = append(names[:len(names):len(names)], "gatewayclass.yaml")
		}
		return printManifests(os.Stdout, *image, names...)
	}
	return c
}

func newKubernetesCRDs() *cobra.Command {
	c := &cobra.Command{
		Use:     "crds",
		Short:   "Print the custom resource definitions of Fairlead",
		Long:    "Print the custom resource definitions of Fairlead: AddressPool and AddressReservation.",
		Example: `  fairlead k8s crds | kubectl apply --server-side -f -`,
		Args:    cobra.NoArgs,
	}
	c.RunE = func(*cobra.Command, []string) error { return printManifests(os.Stdout, "", "crds") }
	return c
}

var imageLine = regexp.MustCompile(`(?m)^( +image: ).*$`)

// printManifests prints files and folders of the manifests as one stream.
func printManifests(out io.Writer, image string, names ...string) error {
	var b bytes.Buffer
	add := func(path string) error {
		text, err := manifests.FS.ReadFile(path)
		if err != nil {
			return fmt.Errorf("manifests: %w", err)
		}
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		if image != "" {
			text = imageLine.ReplaceAll(text, []byte("${1}"+strings.ReplaceAll(image, "$", "$$")))
		}
		b.Write(bytes.TrimPrefix(text, []byte("# Made from configs/helm/fairlead by `go test ./perf/kube/chart -update`.\n\n")))
		return nil
	}
	for _, name := range names {
		err := fs.WalkDir(manifests.FS, name, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			return add(path)
		})
		if err != nil {
			return err
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// kubeconfigWithin is how long making a kubeconfig may take.
const kubeconfigWithin = 30 * time.Second

func newKubernetesKubeconfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "kubeconfig [FILE]",
		Short: "Make the kubeconfig by which a balancer outside of the cluster reaches it",
		Long: `Make the kubeconfig by which a balancer outside of the cluster reaches it, as the
service account that "fairlead k8s manifests --outside" makes. It asks the API server as
an administrator, whose kubeconfig is found as kubectl does. The result is for [kubernetes]
kubeconfig of every balancer, and readable by its owner alone. A file that is there
is not overwritten; without FILE it goes to the standard output.

The token has no end; it is void when its Secret is deleted. With --lifetime it is one
that ends, which the balancers' kubeconfig has to be replaced before.`,
		Example: `  fairlead k8s kubeconfig /etc/fairlead/kubeconfig`,
		Args:    cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	r := setup.Request{}
	f.StringVar(&r.Kubeconfig, "kubeconfig", "", "kubeconfig of an administrator; by default as kubectl finds it")
	f.StringVar(&r.Context, "context", "", "context of it; by default its current one")
	f.StringVar(&r.Server, "api-server", "", "URL by which balancers reach the API server; by default the administrator's")
	f.StringVar(&r.Namespace, "namespace", "fairlead-system", "namespace of the service account")
	f.StringVar(&r.Account, "account", "fairlead", "name of the service account")
	f.StringVar(&r.Secret, "secret", "fairlead-token", "name of the Secret with its token")
	f.DurationVar(&r.Lifetime, "lifetime", 0, "how long the token holds, from 10m on; 0: the one of the Secret, without end")
	c.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case r.Lifetime != 0 && r.Lifetime < 10*time.Minute:
			return usageError("--lifetime %s is less than 10m", r.Lifetime)
		case r.Server != "" && !strings.HasPrefix(r.Server, "https://"):
			return usageError("--api-server %q is no URL with https://", r.Server)
		}
		if len(args) == 1 {
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s is there already, and may be in use; it is left as it is", args[0])
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		ctx, cancel := askContext(kubeconfigWithin)
		defer cancel()
		data, err := setup.Kubeconfig(ctx, r)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			_, err = os.Stdout.Write(data)
			return err
		}
		return writeNewFile(args[0], string(data))
	}
	return c
}

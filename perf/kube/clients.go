package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// REST is how this process reaches the API server as an administrator. It goes by
// a proxy on loopback, so it works outside of the lab's namespaces, too.
// Requests are not limited.
func (c *ControlPlane) REST() *rest.Config { return rest.CopyConfig(c.admin) }

// User is REST for a user, who may do what RBAC says of it and its groups.
func (c *ControlPlane) User(name string, groups ...string) (*rest.Config, error) {
	pair, err := c.authority.client(name, groups)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host: "https://" + c.door.Address().String(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: c.authority.pem, CertData: pair.certificate, KeyData: pair.key,
		},
		QPS: -1,
	}, nil
}

// Token is a token by which its holder is a service account.
func (c *ControlPlane) Token(ctx context.Context, namespace, account string) (string, error) {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return "", err
	}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, &authentication.TokenRequest{}, meta.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token of service account %s/%s: %w", namespace, account, err)
	}
	return answer.Status.Token, nil
}

// Account is REST for a service account, which is known by a token.
func (c *ControlPlane) Account(ctx context.Context, namespace, account string) (*rest.Config, error) {
	token, err := c.Token(ctx, namespace, account)
	if err != nil {
		return nil, err
	}
	return &rest.Config{Host: "https://" + c.door.Address().String(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.pem}, QPS: -1}, nil
}

// Inside is a configuration for a process on the API server's host, or on one
// that has a route to it.
func (c *ControlPlane) Inside(cfg *rest.Config) *rest.Config {
	inside := rest.CopyConfig(cfg)
	inside.Host = "https://" + c.Address().String()
	return inside
}

// Kubeconfig writes a configuration into a file, in the form that all programs of
// Kubernetes read.
func (c *ControlPlane) Kubeconfig(path string, cfg *rest.Config) error {
	const name = "lab"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	file.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData, Token: cfg.BearerToken}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	file.CurrentContext = name
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return nil
}

// Kubectl runs kubectl as an administrator and returns what it has printed. When
// it fails the error says what it has complained of.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args...)
}

// Apply has kubectl apply manifests, which may be several YAML documents.
func (c *ControlPlane) Apply(ctx context.Context, manifests string) error {
	_, err := c.kubectl(ctx, manifests, "apply", "-f", "-")
	return err
}

func (c *ControlPlane) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	path, err := binary(kubectlBinary)
	if err != nil {
		return "", err
	}
	var out, complaints bytes.Buffer
	cmd := exec.Command(path, append([]string{"--kubeconfig=" + c.path("admin.kubeconfig"), "--cache-dir=" + c.path("kubectl")}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaints
	p, err := c.host.Start(cmd)
	if err != nil {
		return "", err
	}
	err = p.Wait(ctx)
	if ctx.Err() != nil {
		err = errors.Join(err, p.Kill())
	}
	if err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out.String(), nil
}

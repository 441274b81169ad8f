package api

import (
	"context"
	"net/url"
)

// Neighbors calls f for every neighbour that the query asks for, page by page.
func (c *Client) Neighbors(ctx context.Context, query url.Values, f func(*Neighbor) error) error {
	return pages(ctx, c, "/v1/neighbors", query, func(p *NeighborPage) ([]Neighbor, string) { return p.Neighbors, p.Next }, f)
}

// Routes calls f for every way that the query asks for, page by page.
func (c *Client) Routes(ctx context.Context, query url.Values, f func(*Route) error) error {
	return pages(ctx, c, "/v1/routes", query, func(p *RoutePage) ([]Route, string) { return p.Routes, p.Next }, f)
}

// Addresses calls f for every address of the node, page by page.
func (c *Client) Addresses(ctx context.Context, query url.Values, f func(*Address) error) error {
	return pages(ctx, c, "/v1/addresses", query, func(p *AddressPage) ([]Address, string) { return p.Addresses, p.Next }, f)
}

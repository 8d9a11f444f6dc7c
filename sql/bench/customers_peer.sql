SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment FROM peer.customer_segmentation

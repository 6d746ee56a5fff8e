/** What the server's page shell hands to the app: `<script type="application/json" id="boot">`. */
import type { Me } from './rest_types';

export interface Boot {
  locale: string | null;
  me: Me | null;
  csrf: string | null;
  version: string;
}

const NOTHING: Boot = { locale: null, me: null, csrf: null, version: '' };

export function readBoot(page: Document = document): Boot {
  const text = page.getElementById('boot')?.textContent;
  if (!text) return NOTHING;
  try {
    return { ...NOTHING, ...(JSON.parse(text) as Partial<Boot>) };
  } catch {
    return NOTHING; // a shell without data still shows a working page
  }
}
